"""Numbers about numbers: what weights and activations look like, told from arrays alone."""
