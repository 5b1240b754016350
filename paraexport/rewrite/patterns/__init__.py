"""What passes look for in a graph: products, sums, attention heads, and what is read of a value."""
