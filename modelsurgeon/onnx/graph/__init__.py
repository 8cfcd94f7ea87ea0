"""Steps that every reader and writer of a graph is made of."""
