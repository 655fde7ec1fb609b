"""A run: its folder, plan, saved states, journal and publication."""
