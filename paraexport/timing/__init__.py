"""Measures time: the stages of a command, and commands side by side."""
