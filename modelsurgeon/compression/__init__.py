"""From a goal for the whole model to a plan for its layers, carried out and timed. Imports no framework."""
