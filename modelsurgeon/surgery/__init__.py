"""Sites, plans and edits: what stands in a model, what to put there, and what became of it."""
