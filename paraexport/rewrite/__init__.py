"""Exact rewrites of an ONNX graph: one pass a file, each with its identity, its count and its refusals."""
