"""What happens to the service under faults: a soak, chaos, and fuzzed requests. Nothing may be wrong, nothing lost."""
