"""Plans: immutable, content-addressed operations that take a snapshot to a batch."""
