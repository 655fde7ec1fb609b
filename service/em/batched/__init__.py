"""The engine for many translations at once, on the processor or on a GPU."""
