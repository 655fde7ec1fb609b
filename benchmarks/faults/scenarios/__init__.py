"""The faults of `make chaos`, each bounded in requests and time. None ends a process that it did not start."""
