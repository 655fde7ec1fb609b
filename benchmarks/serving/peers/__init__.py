"""One server for each peer. Each is run as `python -m benchmarks.serving.peers.NAME` by the benchmark."""
