"""Lower precision, written into the graph: every type is explicit, as strongly typed TensorRT networks want it."""
