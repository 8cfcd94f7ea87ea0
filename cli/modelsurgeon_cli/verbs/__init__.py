"""One module a verb; its `command` is what `modelsurgeon VERB` runs."""
