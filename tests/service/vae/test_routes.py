"""The VAE's endpoints over HTTP. The mathematics has tests of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from tests.service.http import assert_problem

MU, GRAD = [0.5, -1.0], [1.0, -2.0]


@pytest.mark.parametrize("name", ["sigma", "log_variance", "softplus"])
def test_gradients_on_the_wire_are_those_of_autograd(client: TestClient, name: str) -> None:
    body = {"mu": MU, name: [0.3, 0.7], "grad_z": GRAD, "noise": [0.25, -1.5], "kl_weight": 0.5}
    answer = client.post("/vae/reparam-grad", json=body).json()
    mu, scale = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (MU, [0.3, 0.7]))
    sigma = {"sigma": scale, "log_variance": torch.exp(scale / 2), "softplus": torch.nn.functional.softplus(scale)}[
        name
    ]
    z = mu + sigma * torch.tensor([0.25, -1.5], dtype=torch.float64)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, sigma), torch.distributions.Normal(torch.zeros_like(mu), 1.0)
    ).sum()
    loss = (z * torch.tensor(GRAD, dtype=torch.float64)).sum() + 0.5 * kl
    grad_mu, grad_scale = torch.autograd.grad(loss, (mu, scale))
    assert answer["z"] == pytest.approx(z.tolist(), rel=1e-12)
    assert answer["kl"] == pytest.approx(kl.item(), rel=1e-12)
    assert answer["grad_mu"] == pytest.approx(grad_mu.tolist(), rel=1e-12)
    assert answer[f"grad_{name}"] == pytest.approx(grad_scale.tolist(), rel=1e-12)
    assert answer["kl_grad_mu"] == pytest.approx([0.5 * value for value in MU], rel=1e-12)
    assert {key for key in answer if key.startswith("grad_")} == {"grad_mu", f"grad_{name}"}


def test_scale_tril_returns_lower_triangles_for_one_row_and_for_many(client: TestClient) -> None:
    factor = [[1.0, 0.0], [0.5, 2.0]]
    single = client.post(
        "/vae/reparam-grad", json={"mu": MU, "scale_tril": factor, "grad_z": GRAD, "noise": [1.0, 2.0]}
    ).json()
    assert single["z"] == [1.5, 3.5]
    assert single["grad_scale_tril"] == [[1.0, 0.0], [-2.0, -4.0]]
    batched = client.post(
        "/vae/reparam-grad",
        json={"mu": [MU] * 2, "scale_tril": [factor] * 2, "grad_z": [GRAD] * 2, "noise": [[1.0, 2.0]] * 2},
    ).json()
    for field in ("z", "grad_mu", "grad_scale_tril"):
        assert batched[field] == [single[field]] * 2


def test_noise_is_given_or_seeded_or_drawn_and_always_returned(client: TestClient) -> None:
    body = {"mu": MU, "sigma": [1.0, 1.0], "grad_z": GRAD}
    seeded = [client.post("/vae/reparam-grad", json=body | {"seed": 7}) for _ in range(2)]
    assert seeded[0].content == seeded[1].content
    drawn = [client.post("/vae/reparam-grad", json=body).json() for _ in range(2)]
    assert drawn[0]["noise"] != drawn[1]["noise"]
    again = client.post("/vae/reparam-grad", json=body | {"seed": drawn[0]["seed"]}).json()
    assert again["noise"] == drawn[0]["noise"]
    given = client.post("/vae/reparam-grad", json=body | {"noise": [0.0, 1.0]}).json()
    assert (given["noise"], given["seed"]) == ([0.0, 1.0], None)


def test_a_row_has_the_same_result_alone_and_in_a_batch(client: TestClient) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5, 4)).tolist()
    whole = client.post(
        "/vae/reparam-grad", json={"mu": rows[0], "log_variance": rows[1], "grad_z": rows[2], "seed": 1}
    )
    first = client.post(
        "/vae/reparam-grad", json={"mu": rows[0][0], "log_variance": rows[1][0], "grad_z": rows[2][0], "seed": 1}
    )
    assert whole.json()["z"][0] == first.json()["z"]


def test_the_kl_to_the_standard_normal_is_the_default(client: TestClient) -> None:
    q = {"mu": [0.5, -1.0], "sigma": [1.0, 2.0]}
    against = client.post("/vae/kl", json={"q": q, "p": {"mu": [0.0, 0.0], "log_variance": [0.0, 0.0]}}).json()
    standard = client.post("/vae/kl", json={"q": q}).json()
    expected = 0.5 * sum(s * s + m * m - 1 - 2 * np.log(s) for m, s in zip(q["mu"], q["sigma"], strict=True))
    assert against["divergence"] == standard["divergence"] == pytest.approx(expected)
    assert standard["grad_q"]["mu"] == pytest.approx(q["mu"])
    assert standard["grad_q"]["sigma"] == pytest.approx([0.0, 1.5])
    assert set(standard["grad_p"]) == {"mu", "log_variance"}


def test_the_divergence_of_a_label_is_that_of_the_logistic_model(client: TestClient) -> None:
    answer = client.post("/vae/kl", json={"x": [1.0, 2.0], "w": [0.5, -0.5], "y": 1}).json()
    assert answer["logit"] == -0.5
    assert answer["divergence"] == pytest.approx(-0.5 + np.log1p(np.exp(0.5)))
    residual = 1 / (1 + np.exp(0.5))
    assert answer["grad_w"] == pytest.approx([residual, 2 * residual])
    rows = client.post("/vae/kl", json={"x": [[1.0, 2.0]] * 2, "w": [0.5, -0.5], "y": [1, 0]}).json()
    assert rows["divergence"][0] == answer["divergence"]


@pytest.mark.parametrize(("kind", "size"), [("identity", 3), ("diagonal", 6), ("full", 9)])
def test_encoder_size_has_an_explanation(client: TestClient, kind: str, size: int) -> None:
    answer = client.get(f"/vae/encoder-size?dimension=3&covariance={kind}").json()
    assert answer["size"] == size == answer["mean"] + answer["covariance"]
    assert "3 means" in answer["explanation"]


GOOD = {"mu": MU, "sigma": [1.0, 1.0], "grad_z": GRAD}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"sigma": [1.0, 0.0]}, "/sigma/1"),
        ({"sigma": [1.0, -1.0]}, "/sigma/1"),
        ({"sigma": [1.0]}, "/sigma"),
        ({"sigma": None}, ""),
        ({"log_variance": [0.0, 0.0]}, ""),
        ({"mu": []}, "/mu"),
        ({"mu": [[0.5], [1.0, 2.0]]}, "/mu"),
        ({"mu": "x"}, "/mu"),
        ({"mu": [True, 1.0]}, "/mu/0"),
        ({"mu": ["1", 1.0]}, "/mu/0"),
        ({"grad_z": [[1.0, 1.0]]}, "/grad_z"),
        ({"noise": [1.0, 1.0], "seed": 1}, "/seed"),
        ({"seed": -1}, "/seed"),
        ({"seed": True}, "/seed"),
        ({"kl_weight": -1.0}, "/kl_weight"),
        ({"mu": [1e108, 0.0], "grad_z": [1.7e308, 0.0], "noise": [0.0, 0.0], "kl_weight": 1e200}, "/kl_weight"),
        ({"variance": [1.0, 1.0]}, "/variance"),
        ({"sigma": None, "log_variance": [3000.0, 0.0]}, "/log_variance/0"),
        ({"sigma": None, "scale_tril": [[1.0, 1.0], [0.0, 1.0]]}, "/scale_tril/0/1"),
        ({"sigma": None, "scale_tril": [[1.0, 0.0], [0.0, -1.0]]}, "/scale_tril/1/1"),
    ],
)
def test_an_invalid_reparameterization_is_a_422_with_a_pointer(
    client: TestClient, change: dict[str, object], pointer: str
) -> None:
    problem = assert_problem(client.post("/vae/reparam-grad", json=GOOD | change), 422)
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/q"),
        ({"q": {"mu": [0.0]}}, "/q"),
        ({"q": {"mu": [0.0], "sigma": [-1.0]}}, "/q/sigma/0"),
        ({"q": {"mu": [0.0], "sigma": [1.0]}, "p": {"mu": [0.0, 1.0], "sigma": [1.0, 1.0]}}, "/p/mu"),
        ({"x": [1.0], "w": [1.0], "y": 2}, "/y"),
        ({"x": [1.0], "w": [1.0, 2.0], "y": 1}, "/w"),
        ({"x": [1.0], "w": [1.0], "y": 1, "q": {}}, "/q"),
    ],
)
def test_an_invalid_divergence_is_a_422_with_a_pointer(
    client: TestClient, body: dict[str, object], pointer: str
) -> None:
    problem = assert_problem(client.post("/vae/kl", json=body), 422)
    assert problem["errors"][0]["pointer"] == pointer
