"""The claims of the Para-Former paper (arXiv 2407.21670), tried in the small: `python -m benchmarks.paper.NAME --help`.

| command | tries |
|-|-|
| `latency` | latency against branches, and against the serial network |
| `accuracy` | accuracy against branches and depth |
| `pretraining` | what pre-training on generated digits brings |
| `single_block` | one branch of one layer against a standard Transformer block |
| `sharing` | branches that share weights |
| `mixing` | attention against a fixed mixing of tokens |

`training` has the data and the training loop, `reporting` writes the results, `timing` times several models in turns.
`docs/paper.md` tells what came out.
"""
