"""Statistics of weights, which are read one at a time, and of activations, which are measured on samples."""
