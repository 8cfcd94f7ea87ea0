"""Tables and charts as plain data, rendered as text, JSON, CSV, Markdown and HTML."""
