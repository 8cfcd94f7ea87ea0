"""Connected channels of a graph, and the passes that scale or remove them."""
