"""What samples say of layers: moments of their inputs, factorizations that know them, sensitivities."""
