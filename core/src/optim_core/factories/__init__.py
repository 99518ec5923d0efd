"""What a factory is, how one is constructed from configured parameters, and what its author claims of it."""
