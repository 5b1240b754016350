"""Builds a checked bundle from a checkpoint, and validates it again later: options, and stages in order."""
