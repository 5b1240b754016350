"""The exact rewrites for an ONNX file of any origin."""
