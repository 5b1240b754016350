"""TensorRT and TensorRT-RTX: one implementation for both, `flavour.py` holding what differs between them."""
