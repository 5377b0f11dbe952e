"""Many trials in the same tensors: weights side by side, shared products, spectra."""
