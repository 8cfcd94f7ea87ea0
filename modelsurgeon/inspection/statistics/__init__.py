"""Statistics of weights and activations, computed from arrays alone."""
