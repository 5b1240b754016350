"""Times bundles side by side, and beside PyTorch: `paraexport bench`."""
