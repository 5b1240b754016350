"""Holds the results of all stages as frozen dataclasses, and describes them for people."""
