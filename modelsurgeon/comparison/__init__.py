"""Whether two models give the same answers, and how far apart they are."""
