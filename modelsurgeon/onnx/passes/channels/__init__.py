"""Which channels of a graph belong together, and the passes that scale or remove them."""
