"""The peers of the load test draw the digits of the service."""

from __future__ import annotations

import io

import httpx2
import numpy as np
from PIL import Image

from benchmarks.serving.digits import Digits
from tests.e2e.conftest import Live


def test_the_peers_draw_the_digits_of_the_service(live: Live) -> None:
    seeds = [0, 7, 10**9, 10**10 - 1]
    for seed, drawn in zip(seeds, Digits()(seeds), strict=True):
        expected = httpx2.get(f"{live.address}/gan/generate?seed={seed}").content
        ours, theirs = (np.asarray(Image.open(io.BytesIO(picture))) for picture in (expected, drawn))
        assert theirs.shape == (32, 32)
        assert np.array_equal(ours, theirs)
