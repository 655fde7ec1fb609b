"""Whole problems, from clouds to answers."""
