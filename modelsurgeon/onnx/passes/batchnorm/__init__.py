"""Batch norm in graphs: read, folded, frozen, repaired, recalibrated."""
