"""The machine under us: processes, CPUs, memory, and paths that are hard to handle."""
