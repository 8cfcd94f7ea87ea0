"""Cost, params, memory and statistics of the nodes of a bound model."""
