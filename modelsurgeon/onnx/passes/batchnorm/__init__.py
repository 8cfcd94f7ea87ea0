"""Batch norm in graphs: read, folded, frozen, mended, measured anew."""
