"""The start of a pose: annealing from near, and the search from anywhere."""
