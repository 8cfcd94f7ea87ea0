"""Results of inspecting a model without changing it, as plain data and tables. Imports no framework."""
