"""A realistic mixture of requests to all endpoints, good and bad, whose answers do not change."""

from __future__ import annotations

import base64
import random

import numpy as np

from benchmarks.faults.encoding import CORPUS, NPZ
from benchmarks.serving.connection import Call, to_bytes
from benchmarks.serving.mixtures import pool

# Bytes that are no request. The service answers 400 and closes the connection.
MALFORMED = (
    b"NONSENSE\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
    b"POST /vae/kl HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
_GOOD = 120  # of the requests that draw, register and differentiate


def requests(seed: int = 0) -> list[tuple[str, bytes]]:
    """Names and bytes of valid requests to every endpoint, and of requests that are refused for their content."""
    calls = random.Random(seed).sample(pool(), _GOOD) + _others() + _bad()  # noqa: S311
    return [(f"{call.method} {call.path}", to_bytes(call)) for call in calls]


def _others() -> list[Call]:
    """One request to each endpoint, and of each media type, that the serving benchmark does not have."""
    picture = (CORPUS / "images" / "L.png").read_bytes()
    cloud = (CORPUS / "clouds" / "ascii.ply").read_bytes()
    points = np.random.default_rng(0).normal(size=(20, 2))
    problem = {"source": points.tolist(), "target": (points + 1).tolist()}
    form = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"; filename="a.ply"\r\n\r\n%b\r\n' % (name, cloud)
        for name in (b"source", b"target")
    )
    poses = [problem | {"transform": kind} for kind in ("rigid", "similarity", "affine", "nonrigid")]
    return [
        *(Call("POST", "/em/register", pose) for pose in poses),
        Call("POST", "/em/register", problem | {"include": ["trace", "registered"], "matching": "one_to_one"}),
        Call("POST", "/em/register", form + b"--b--\r\n", "multipart/form-data; boundary=b"),
        Call("POST", "/em/register", (CORPUS / "archives" / "request.npz").read_bytes(), NPZ),
        Call("POST", "/em/register/batch", {"problems": [problem, *poses, {"source": [[0]], "target": [[0, 1]]}]}),
        Call("POST", "/gan/discriminate", picture, "image/png"),
        Call("POST", "/gan/invert", {"images": np.zeros((28, 28), int).tolist()}),
        Call("GET", "/gan/interpolate?seeds=1,2&frames=4&format=webp"),
        Call("HEAD", "/gan/generate?seed=1"),
        Call("GET", "/vae/encoder-size?dimension=9&covariance=full"),
        Call("GET", "/livez"),
        Call("GET", "/readyz"),
        Call("GET", "/v2/models/em/ready"),
        Call("GET", "/openapi.json"),
    ]


def _bad() -> list[Call]:
    """Requests that are refused for their content, each for another reason."""
    text = base64.b64encode(bytes(range(250)))
    return [
        Call("GET", "/nowhere"),
        Call("DELETE", "/gan/generate"),
        Call("GET", "/gan/generate?count=0"),
        Call("GET", "/gan/generate?seed=1&seed=2"),
        Call("GET", "/gan/generate?checkpoint=000000000000"),
        Call("POST", "/em/register", {"source": [[0.0], [1.0]], "target": [[5.0, 6.0]]}),
        Call("POST", "/em/register", {"source": [[1e200, 0]], "target": [[1, 2]]}),
        Call("POST", "/em/register", text, "application/x-npz"),
        Call("POST", "/em/register", b'{"source": [[1, 2]', "application/json"),
        Call("POST", "/em/register", b'{"source": [[1, 2]], "source": 1}', "application/json"),
        Call("POST", "/vae/reparam-grad", {"mu": [0.0], "log_variance": [5000.0], "grad_z": [1.0]}),
        Call("POST", "/vae/kl", text, "text/plain"),
        Call("POST", "/vae/kl", {"q": {"mu": [[[0]]], "sigma": "σ"}, "more": None}),
        Call("POST", "/gan/discriminate", (CORPUS / "images" / "animated.png").read_bytes(), "image/png"),
        Call("POST", "/gan/discriminate", text, "image/webp"),
    ]
