"""The engine for many translations at once."""
