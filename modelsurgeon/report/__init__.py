"""Tables and charts as plain data, and how they look in terminals, files and pages."""
