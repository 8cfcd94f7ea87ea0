"""Where inference ends: sizes that are known at run time only, and shapes that the file declares."""
