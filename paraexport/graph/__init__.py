"""Tools for ONNX graphs: read, write, summarise, name, edit, count."""
