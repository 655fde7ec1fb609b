"""Wire text and files to and from arrays: JSON and npy, pictures, point clouds."""
