"""One module per verb; its `command` is what `modelsurgeon VERB` runs."""
