"""The batching of jobs, and the choice of the device."""
