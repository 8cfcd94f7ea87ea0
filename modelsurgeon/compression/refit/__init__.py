"""The factors of a plan fitted by least squares to what the layers gave before."""
