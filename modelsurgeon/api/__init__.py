"""The public verbs: each takes whatever a caller calls a model, and gives plain data that can show itself."""
