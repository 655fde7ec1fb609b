"""Even density: clouds thinned to the means of voxels, and the choice of their side from the data."""
