"""Batches: the immutable output of one extract and transform of one source at one moment."""
