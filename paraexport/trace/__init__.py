"""Traces a module into an ONNX graph, and finds how the graph ends."""
