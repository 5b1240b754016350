"""Defines a Para-Former: its spec, the reference module, and the meaning of its outputs."""
