"""A run: its folder, its plan, its journal, and what it publishes."""
