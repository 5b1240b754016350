"""Applies the exact rewrites to an ONNX file from any exporter."""
