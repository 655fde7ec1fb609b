"""Nonrigid registration by coherent point drift."""
