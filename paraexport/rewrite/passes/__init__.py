"""The passes: one identity a file."""
