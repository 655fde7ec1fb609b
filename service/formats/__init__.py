"""Conversion between arrays and their text or files: JSON, npy, pictures and point clouds."""
