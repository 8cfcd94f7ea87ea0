"""From a goal for the net to a plan for its layers, carried out, refitted, timed. Knows no framework."""
