"""The passes: one identity in each file."""
