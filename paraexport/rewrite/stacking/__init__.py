"""Computes the same value of several branches at once: finds alike nodes, arranges values, applies operator rules."""
