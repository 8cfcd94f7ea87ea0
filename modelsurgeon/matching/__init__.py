"""Which layers of two nets belong together, and heads of another number of classes."""
