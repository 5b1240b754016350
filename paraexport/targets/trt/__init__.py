"""Compiles and runs engines of TensorRT and TensorRT-RTX. `flavour.py` holds the differences between the two."""
