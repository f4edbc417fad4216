"""The crash harness: real processes, killed at every named point and at random ones, on real databases and targets."""
