"""Compares engines with PyTorch: limits, golden data, and the place where a difference begins."""
