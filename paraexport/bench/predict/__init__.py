"""Predicts latency from the work in a graph and the ceilings of a device: `paraexport bench --predict`.

Nothing runs on the device. `latency` has the formula, `devices` and `runtimes` its numbers with their sources.
"""
