"""The HTTP layer: reading of requests, problems, the edge, health, logs and metrics."""
