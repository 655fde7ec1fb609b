"""The threads that decode uploads and encode pictures, beside the event loop."""

from __future__ import annotations

import os

from anyio import CapacityLimiter

# One thread for each core: more threads would only hold more clouds and pictures in memory.
THREADS = CapacityLimiter(os.cpu_count() or 1)
