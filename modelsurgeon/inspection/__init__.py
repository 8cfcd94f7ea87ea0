"""What is known of a model without changing it, as plain data and tables. Knows no framework."""
