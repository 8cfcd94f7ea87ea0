"""Settings: floats that only steer an operator, such as the scales of a Resize, and so are no params."""
