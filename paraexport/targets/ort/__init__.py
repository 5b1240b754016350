"""Runs graphs in ONNX Runtime, on the CPU and on NVIDIA GPUs; each execution provider is a target."""
