"""Calibration on samples: moments of layer inputs, activation-aware factorization, sensitivities."""
