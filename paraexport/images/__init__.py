"""Finds, decodes, resizes and normalises images from folders, `.npy` and `.npz`."""
