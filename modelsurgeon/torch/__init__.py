"""PyTorch modules: layers, sites, export, state dicts; the only package that runs torch."""
