"""EM on one problem, from a start to a peak of its likelihood, and the confidence there."""
