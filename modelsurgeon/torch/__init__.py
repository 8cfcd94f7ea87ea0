"""The one door to torch."""
