"""Images: found, decoded, resized and normalised; from folders, `.npy` and `.npz`."""
