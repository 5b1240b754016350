"""Writes graphs in fp16 and bf16, and computes them on a CPU with every rounding."""
