"""ONNX Runtime, on the CPU and on NVIDIA GPUs: a target, a `Provider`, for each execution provider."""
