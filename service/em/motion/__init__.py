"""Nonrigid registration: coherent point drift."""
