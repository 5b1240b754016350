"""Comparisons with PyTorch: limits, golden data, and where a difference begins."""
