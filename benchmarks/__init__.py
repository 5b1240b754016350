"""Measurements of this project. Each module below is a command: `python -m benchmarks.NAME --help`.

| command | measures |
|-|-|
| `peers` | our layouts compared with the other ways to run such a model |
| `scaling` | latency against the number of branches, and against depth |
| `operators` | how the time of a layout splits by type of operator |
| `roofline` | how much of the latency the products of matrices explain |
| `int8.peers` | accuracy and speed of our int8 compared with other tools |
| `forms` | the ways to write a graph for the CPU kernels of both runtimes |
| `predictions` | nothing: predicts every latency in `results`, and compares |
| `rewrites` | nodes and multiply-adds that each layout leaves |
| `engines` | what TensorRT-RTX compiles, ahead of time |
| `gpu.check` | everything that needs a GPU, in one run (`make gpu-check`) |
| `loading` | time and memory of `paraexport.load` |
| `large` | time and memory of builds of large models |
| `costs` | time of import, build and first answer |
| `paper.*` | the claims of the Para-Former paper, tried in the small |

`experiments` holds scripts that answered one question once. `harness` holds what the scripts share: models and graphs,
the contest with its workers, pages and pictures. `results` holds the committed results. The timing itself is
`paraexport.timing`.
"""
