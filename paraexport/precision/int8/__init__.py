"""Writes graphs in int8, and measures the error of every branch and layer."""
