"""Measurements that answered one question once. No table, test or make target needs them again.

| script | question | answer in |
|-|-|-|
| `attention_forms` | Which forms of attention does TensorRT-RTX compile, and which does it fuse? | docs/tensorrt.md |
| `bench_itself` | Does `paraexport bench` agree with another timing, and notice load? | docs/benchmarks.md |
| `outliers` | How much of the int8 accuracy that outliers cost does each remedy bring back? | docs/precision.md |
| `patches` | In which order does ONNX Runtime cut images into patches faster? | docs/rewrites.md |
"""
