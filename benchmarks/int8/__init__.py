"""Our int8 compared with other int8 tools: `python -m benchmarks.int8.peers`."""
