"""Sites, plans and edits: where layers can be replaced, by what, and what was done to each."""
