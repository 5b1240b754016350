"""Many branches as one: which values are alike, and how each operator is computed for all branches at once."""
