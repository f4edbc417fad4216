"""What a thing is called, and what its content hashes to."""
