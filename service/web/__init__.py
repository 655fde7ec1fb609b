"""How the service speaks HTTP: reading requests, problems, the outermost layer, health, logs and metrics."""
