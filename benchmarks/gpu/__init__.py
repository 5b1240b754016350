"""Everything that needs a GPU, in one run: `make gpu-check`, or `python -m benchmarks.gpu.check -o FOLDER`."""
