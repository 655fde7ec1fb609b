"""EM on one problem, from a start to the top of its likelihood, and what is known there."""
