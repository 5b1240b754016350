"""Finds patterns that passes look for: products, sums, attention heads, and the parts of values that are read."""
