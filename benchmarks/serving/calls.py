"""Requests to every endpoint that computes."""

from __future__ import annotations

import numpy as np

from benchmarks.serving.connection import Call

CALLS = 64


def calls() -> dict[str, list[Call]]:
    """64 different requests for each endpoint."""
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(CALLS, 100, 2))
    moved = cloud + rng.normal(size=(CALLS, 1, 2)) + 0.01 * rng.normal(size=cloud.shape)
    mu, sigma, grad = rng.normal(size=(3, CALLS, 64))
    images = rng.integers(0, 256, (CALLS, 1, 32, 32))
    problems = [{"source": p.tolist(), "target": q.tolist(), "sigma": 0.1} for p, q in zip(cloud, moved, strict=True)]
    # Single steps are teaching tools: with many points, N x M numbers of JSON outweigh the computation.
    steps = [{"source": p["source"][:20], "target": p["target"][:20], "sigma": 0.1} for p in problems]
    uniform = np.full((20, 20), 0.05).tolist()
    return {
        "GET /gan/generate": [Call("GET", f"/gan/generate?seed={seed}") for seed in range(CALLS)],
        "POST /gan/generate": [Call("POST", "/gan/generate", {"seed": seed}) for seed in range(CALLS)],
        "POST /gan/discriminate": [Call("POST", "/gan/discriminate", {"images": x.tolist()}) for x in images],
        "POST /vae/reparam-grad": [
            Call(
                "POST",
                "/vae/reparam-grad",
                {"mu": m.tolist(), "log_variance": s.tolist(), "grad_z": g.tolist(), "seed": seed},
            )
            for seed, (m, s, g) in enumerate(zip(mu, sigma, grad, strict=True))
        ],
        "POST /vae/kl": [
            Call("POST", "/vae/kl", {"q": {"mu": m.tolist(), "log_variance": s.tolist()}})
            for m, s in zip(mu, sigma, strict=True)
        ],
        "POST /em/register": [Call("POST", "/em/register", problem) for problem in problems],
        "POST /em/expectation": [Call("POST", "/em/expectation", step) for step in steps],
        "POST /em/maximization": [
            Call(
                "POST",
                "/em/maximization",
                {"source": step["source"], "target": step["target"], "responsibilities": uniform},
            )
            for step in steps
        ],
        "POST /em/log-likelihood": [Call("POST", "/em/log-likelihood", step) for step in steps],
    }
