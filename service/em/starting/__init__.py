"""Where a pose starts from: annealing from near, and the search from anywhere."""
