"""Tools for the machine: processes, CPUs, memory, files and unusual paths."""
