"""The commands of `penstock`, by what they are about; ``control_plane/cli.py`` puts them together."""
