"""Measures time: latencies, throughput, commands side by side, and the stages of a build.

| module | gives |
|-|-|
| `calls` | latencies of calls in this process |
| `percentiles` | percentiles of latencies, and how many calls each one needs |
| `stability` | windows that repeat until the last ones agree |
| `throughput` | images a second with several threads that call at once |
| `contest` | commands timed in turns, each in its own process |
| `process` | one such command |
| `machine_load` | CPUs that other processes kept busy meanwhile |
| `clock` | seconds of each stage of a command |
"""
