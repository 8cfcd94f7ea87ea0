"""What the nodes of a bound model cost, hold and keep alive."""
