"""Chat engines."""
