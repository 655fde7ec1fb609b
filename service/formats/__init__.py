"""Conversion between arrays and their text or files: JSON, npy, npz, pictures and point clouds."""
