"""Tools for ONNX graphs: read, write, query, edit, count, and find shapes and names."""
