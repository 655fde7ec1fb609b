"""z = μ + σ∘v and its gradients: closed forms, agreement with autograd, and batch invariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.inputs import Array
from service.vae.reparameterization import (
    PARAMETRIZATIONS,
    Parametrization,
    Reparameterization,
    ReparameterizationJob,
    draw_noise,
    fold,
    reparameterize,
    reparameterize_batch,
)

DIAGONAL: tuple[Parametrization, ...] = ("sigma", "log_variance", "softplus")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
seeds = st.integers(0, 2**32 - 1)
shapes = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 9)))
weights = st.one_of(st.just(0.0), st.floats(1e-3, 10))


def random_job(
    rng: np.random.Generator,
    parametrization: Parametrization,
    shape: tuple[int, ...],
    kl_weight: float | None = None,
) -> ReparameterizationJob:
    mu, noise, grad_z, scale = (rng.standard_normal(shape) for _ in range(4))
    if parametrization == "sigma":
        scale = np.exp(scale)
    if parametrization == "scale_tril":
        diagonal = np.exp(scale)
        scale = np.tril(rng.standard_normal((*shape, shape[-1])), -1)
        scale[..., np.arange(shape[-1]), np.arange(shape[-1])] = diagonal
    return ReparameterizationJob(mu, scale, parametrization, noise, grad_z, kl_weight)


def arrays(result: Reparameterization | InvalidInput) -> list[Array]:
    assert isinstance(result, Reparameterization), result
    return [array for array in result if array is not None]


def content(result: Reparameterization | InvalidInput) -> list[tuple[tuple[int, ...], bytes]]:
    return [(array.shape, array.tobytes()) for array in arrays(result)]


def tensors(job: ReparameterizationJob) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(array), requires_grad=True) for array in (job.mu, job.scale)]


def sigma_by_torch(theta: torch.Tensor, parametrization: Parametrization) -> torch.Tensor:
    if parametrization == "log_variance":
        return torch.exp(0.5 * theta)
    return torch.logaddexp(theta, torch.zeros_like(theta)) if parametrization == "softplus" else theta


def assert_close(actual: Array, expected: torch.Tensor | Array) -> None:
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12 * float(np.abs(expected).max()))


# Against autograd


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@settings(deadline=None, max_examples=40)
@given(seed=seeds, shape=shapes)
def test_z_and_the_pathwise_gradients_agree_with_autograd(
    parametrization: Parametrization, seed: int, shape: tuple[int, ...]
) -> None:
    job = random_job(np.random.default_rng(seed), parametrization, shape)
    mu, theta = tensors(job)
    noise, grad_z = torch.tensor(job.noise), torch.tensor(job.grad_z)
    if parametrization == "scale_tril":
        z = mu + (torch.tril(theta) @ noise[..., None])[..., 0]
    else:
        z = mu + sigma_by_torch(theta, parametrization) * noise
    expected = torch.autograd.grad(z, (mu, theta), grad_z)
    result = reparameterize(job)
    assert_close(result.z, z)
    np.testing.assert_array_equal(result.grad_mu, job.grad_z)
    assert_close(result.grad_mu, expected[0])
    assert_close(result.grad_scale, expected[1])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@settings(deadline=None, max_examples=40)
@given(seed=seeds, shape=shapes, weight=weights)
def test_the_kl_part_agrees_with_torch_distributions_and_autograd(
    parametrization: Parametrization, seed: int, shape: tuple[int, ...], weight: float
) -> None:
    job = random_job(np.random.default_rng(seed), parametrization, shape, weight)
    mu, theta = tensors(job)
    q: torch.distributions.Distribution
    p: torch.distributions.Distribution
    if parametrization == "scale_tril":
        q = torch.distributions.MultivariateNormal(mu, scale_tril=torch.tril(theta))
        p = torch.distributions.MultivariateNormal(torch.zeros_like(mu), torch.eye(shape[-1], dtype=torch.float64))
    else:
        normal = torch.distributions.Normal
        q = torch.distributions.Independent(normal(mu, sigma_by_torch(theta, parametrization)), 1)
        p = torch.distributions.Independent(normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    kl = torch.distributions.kl_divergence(q, p)
    expected = torch.autograd.grad(weight * kl.sum(), (mu, theta))
    result = reparameterize(job)
    assert result.kl is not None
    assert result.kl_grad_mu is not None
    assert result.kl_grad_scale is not None
    assert_close(result.kl, kl)
    assert_close(result.kl_grad_mu, expected[0])
    assert_close(result.kl_grad_scale, expected[1])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_without_a_kl_weight_there_is_no_kl_part_and_with_one_the_rest_stays_the_same(
    parametrization: Parametrization,
) -> None:
    job = random_job(np.random.default_rng(0), parametrization, (3, 2))
    assert reparameterize(job)[3:] == (None, None, None)
    assert content(reparameterize(job)) == content(reparameterize(job._replace(kl_weight=0.5)))[:3]


# Closed forms


@settings(deadline=None)
@given(seed=seeds, shape=shapes, weight=weights)
def test_the_parametrizations_agree_when_they_describe_the_same_sigma(
    seed: int, shape: tuple[int, ...], weight: float
) -> None:
    job = random_job(np.random.default_rng(seed), "sigma", shape, weight)
    sigma = np.asarray(job.scale)
    # θ, and dσ/dθ by which the gradients differ.
    others: dict[Parametrization, tuple[Array, Array]] = {
        "log_variance": (2 * np.log(sigma), sigma / 2),
        "softplus": (sigma + np.log(-np.expm1(-sigma)), -np.expm1(-sigma)),
    }
    expected = reparameterize(job)
    for parametrization, (theta, slope) in others.items():
        actual = reparameterize(job._replace(scale=theta, parametrization=parametrization))
        factors: list[float | Array] = [1, 1, slope, 1, 1, slope]
        for i, factor in enumerate(factors):
            assert_close(arrays(actual)[i], arrays(expected)[i] * factor)
    tril = reparameterize(job._replace(scale=sigma[..., None] * np.eye(shape[-1]), parametrization="scale_tril"))
    for i in (0, 1, 3, 4):
        assert_close(arrays(tril)[i], arrays(expected)[i])
    for i in (2, 5):
        assert_close(np.diagonal(arrays(tril)[i], axis1=-2, axis2=-1), arrays(expected)[i])


@pytest.mark.parametrize("parametrization", DIAGONAL)
def test_samples_have_mean_mu_variances_sigma_squared_and_covariance_0(parametrization: Parametrization) -> None:
    n, mu, sigma = 200_000, np.array([1.0, -2.0, 30.0]), np.array([0.1, 1.0, 7.0])
    theta = {"sigma": sigma, "log_variance": 2 * np.log(sigma), "softplus": np.log(np.expm1(sigma))}[parametrization]
    assert_moments(parametrization, n, mu, theta, np.diag(sigma**2))


def test_samples_of_scale_tril_have_covariance_l_lt() -> None:
    factor = np.array([[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [3.0, 1.0, 0.1]])
    assert_moments("scale_tril", 200_000, np.array([1.0, 2.0, -3.0]), factor, factor @ factor.T)


def assert_moments(parametrization: Parametrization, n: int, mu: Array, theta: Array, covariance: Array) -> None:
    """Mean and covariance of n samples within five standard errors: √(C_ii/n) and √((C_ii C_jj + C_ij²)/n)."""
    tiled = np.broadcast_to(theta, (n, *theta.shape))
    means = np.broadcast_to(mu, (n, 3))
    z = reparameterize(ReparameterizationJob(means, tiled, parametrization, draw_noise(7, (n, 3)), means)).z
    variances = np.diag(covariance)
    assert (np.abs(z.mean(0) - mu) < 5 * np.sqrt(variances / n)).all()
    errors = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert (np.abs((z - mu).T @ (z - mu) / n - covariance) < 5 * errors).all()


@pytest.mark.parametrize(
    ("parametrization", "theta"),
    [("sigma", 1.0), ("log_variance", 0.0), ("softplus", np.log(np.expm1(1.0))), ("scale_tril", np.eye(2))],
)
def test_the_kl_of_the_standard_normal_is_0_and_so_are_its_gradients(
    parametrization: Parametrization, theta: float | Array
) -> None:
    zero = np.zeros(2)
    scale = np.eye(2) if parametrization == "scale_tril" else np.full(2, theta)
    result = reparameterize(ReparameterizationJob(zero, scale, parametrization, zero, zero, 1.0))
    exact = 0 if parametrization != "softplus" else 1e-15  # log(e - 1) is not a double
    assert all(np.abs(array).max() <= exact for array in arrays(result)[3:])


def test_the_kl_is_positive_and_exact_one_ulp_away_from_the_standard_normal() -> None:
    sigma = np.nextafter(1.0, 2.0)
    result = reparameterize(
        ReparameterizationJob(np.zeros(1), np.array([sigma]), "sigma", np.zeros(1), np.zeros(1), 1.0)
    )
    # KL(1 + ε) = ε² + O(ε³), and its slope is 2ε.
    epsilon = sigma - 1
    assert_close(arrays(result)[3], np.asarray(epsilon**2))
    assert_close(arrays(result)[5], np.asarray([2 * epsilon]))


def test_far_tails_stay_finite_where_sigma_underflows() -> None:
    mu, one = np.array([3.0]), np.ones(1)
    for parametrization, theta in (("log_variance", -2000.0), ("softplus", -1000.0)):
        result = reparameterize(
            ReparameterizationJob(mu, np.array([theta]), parametrization, one, one, 1.0)  # type: ignore[arg-type]
        )
        assert result.z == mu
        assert result.grad_scale == 0
        assert result.kl == 0.5 * (9 - 1 + 2000)
        # dKL/dθ → -dlog σ/dθ: -1/2 for the log variance, -1 for softplus.
        assert result.kl_grad_scale == (-0.5 if parametrization == "log_variance" else -1)


def test_softplus_is_accurate_beyond_the_threshold_where_the_usual_one_becomes_linear() -> None:
    rho, one, zero = np.array([20.5, 30.0]), np.ones(2), np.zeros(2)
    z = reparameterize(ReparameterizationJob(zero, rho, "softplus", one, one)).z
    np.testing.assert_allclose(z - rho, np.exp(-rho), atol=np.spacing(30.0))


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 64, 100])
def test_fold_sums_the_last_axis(width: int) -> None:
    terms = torch.arange(3 * width, dtype=torch.float64).reshape(3, width)
    assert torch.equal(fold(terms.clone()), terms.sum(-1))


# Batches

SIZES: list[tuple[int, ...]] = [
    *((d,) for d in (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129)),
    *((b, d) for b in (1, 2, 3, 9) for d in (1, 2, 5, 16, 33)),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_a_job_gets_the_same_bytes_alone_and_in_any_batch(
    parametrization: Parametrization, device: str, threads: int
) -> None:
    rng = np.random.default_rng(threads)
    jobs = [random_job(rng, parametrization, shape, (None, 0.5, 2.0)[k % 3]) for k, shape in enumerate(SIZES)]
    alone = [content(reparameterize(job, device=device)) for job in jobs]
    for _ in range(12):
        order = rng.permutation(len(jobs))[: rng.integers(2, len(jobs) + 1)]
        together = reparameterize_batch([jobs[k] for k in order], device=device)
        for k, result in zip(order, together, strict=True):
            assert content(result) == alone[k], jobs[k].mu.shape


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_jobs_large_enough_to_be_split_over_threads_keep_their_bytes(
    parametrization: Parametrization, threads: int
) -> None:
    rng = np.random.default_rng(threads)
    shapes = [(2309, 5), (7, 3), (701, 16), (6101, 7), (1, 1)]
    jobs = [random_job(rng, parametrization, shape, 1.0) for shape in shapes]
    alone = [content(reparameterize(job)) for job in jobs]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 3], [2, 0, 4]):
        results = reparameterize_batch([jobs[k] for k in order])
        assert [content(result) for result in results] == [alone[k] for k in order]


def test_the_bytes_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    jobs = [random_job(rng, parametrization, (5003, 7), 1.0) for parametrization in PARAMETRIZATIONS]
    before, seen = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        seen.append([content(result) for result in reparameterize_batch(jobs)])
    torch.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]


def test_a_mixed_batch_answers_in_order_and_bad_jobs_spoil_no_other() -> None:
    rng = np.random.default_rng(0)
    jobs = [
        random_job(rng, parametrization, (2, 3), weight) for parametrization in PARAMETRIZATIONS for weight in (None, 1)
    ]
    alone = [content(reparameterize(job)) for job in jobs]
    bad = [job._replace(mu=np.full((2, 3), np.nan)) for job in jobs]
    bad += [job._replace(grad_z=np.full((2, 3), 1e308), noise=np.full((2, 3), 1e308)) for job in jobs]
    bad += [job._replace(noise=np.zeros(3)) for job in jobs]
    outcomes = reparameterize_batch([*bad, *jobs, *bad])
    good = outcomes[len(bad) : len(bad) + len(jobs)]
    assert [content(outcome) for outcome in good] == alone
    assert all(isinstance(outcome, InvalidInput) for outcome in outcomes[: len(bad)] + outcomes[-len(bad) :])


def test_an_empty_batch_has_no_outcomes() -> None:
    assert reparameterize_batch([]) == []


def test_tensors_and_integers_are_read_like_float64_arrays() -> None:
    expected = reparameterize(
        ReparameterizationJob(np.array([1.0]), np.array([2.0]), "sigma", np.array([3.0]), np.array([4.0]))
    )
    one: Any = np.array([1])
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    job = ReparameterizationJob(one, scale, "sigma", torch.tensor([3.0]), torch.tensor([4.0]))
    assert content(reparameterize(job)) == content(expected)


number = st.one_of(st.floats(), st.floats(-3, 3), st.sampled_from([0.0, -0.0, 1e200, 1e308, -1e308, 5e-324, -2e3, 800]))


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_the_numbers_the_outcome_is_finite_or_an_error_that_names_an_element(
    parametrization: Parametrization, data: st.DataObject
) -> None:
    vector = st.lists(number, min_size=2, max_size=2).map(lambda values: np.array(values))
    mu, noise, grad_z, scale, below = (data.draw(vector) for _ in range(5))
    if parametrization == "scale_tril":
        scale = np.array([[scale[0], 0.0], [below[0], scale[1]]])
    (outcome,) = reparameterize_batch(
        [ReparameterizationJob(mu, scale, parametrization, noise, grad_z, data.draw(st.sampled_from([None, 0.0, 1e5])))]
    )
    if isinstance(outcome, InvalidInput):
        _, field, *index = outcome.pointer.split("/")
        assert field in ("mu", "noise", "grad_z", parametrization)
        assert all(int(i) < 2 for i in index)
        assert len(index) >= 1
    else:
        assert all(np.isfinite(array).all() for array in arrays(outcome))


# Errors


def valid(parametrization: Parametrization = "sigma", **changes: Any) -> ReparameterizationJob:
    scale = np.tile(np.eye(2), (3, 1, 1)) if parametrization == "scale_tril" else np.ones((3, 2))
    ones = np.ones((3, 2))
    return ReparameterizationJob(ones, scale, parametrization, ones, ones, 1.0)._replace(**changes)


def with_entry(shape: tuple[int, ...], index: tuple[int, ...], value: float) -> Array:
    array = np.ones(shape) if len(shape) == 2 else np.tile(np.eye(shape[-1]), (*shape[:-2], 1, 1))
    array[index] = value
    return array


BAD: list[tuple[ReparameterizationJob, str]] = [
    (valid(scale=with_entry((3, 2), (2, 1), 0.0)), "/sigma/2/1"),
    (valid(scale=with_entry((3, 2), (0, 1), -1.0)), "/sigma/0/1"),
    (valid(scale=with_entry((3, 2), (1, 0), np.nan)), "/sigma/1/0"),
    (valid(mu=with_entry((3, 2), (1, 1), np.inf)), "/mu/1/1"),
    (valid(noise=with_entry((3, 2), (0, 0), -np.inf)), "/noise/0/0"),
    (valid(grad_z=with_entry((3, 2), (2, 0), np.nan)), "/grad_z/2/0"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (1, 1, 1), 0.0)), "/scale_tril/1/1/1"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (1, 0, 0), -2.0)), "/scale_tril/1/0/0"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 0, 1), 1e-300)), "/scale_tril/2/0/1"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), np.nan)), "/scale_tril/2/1/0"),
    (valid("log_variance", scale=with_entry((3, 2), (1, 0), 2000.0)), "/log_variance/1/0"),
    (valid("log_variance", scale=with_entry((3, 2), (1, 0), 2000.0), kl_weight=None), "/log_variance/1/0"),
    (valid("log_variance", scale=with_entry((3, 2), (1, 0), 1000.0)), "/log_variance/1/0"),  # σ² overflows, not σ
    (valid(scale=with_entry((3, 2), (2, 0), 1e200)), "/sigma/2/0"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), 1e200)), "/scale_tril/2/1/0"),
    (
        valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), 1e308), noise=np.full((3, 2), 10.0)),
        "/scale_tril/2/1/0",
    ),
    (
        valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 1), 1e308), noise=np.full((3, 2), 10.0)),
        "/scale_tril/2/1/1",
    ),
    (valid(mu=with_entry((3, 2), (2, 1), 1e200)), "/mu/2/1"),
    (valid(grad_z=with_entry((3, 2), (2, 0), 1e308), noise=np.full((3, 2), 10.0)), "/grad_z/2/0"),
    (valid("scale_tril", grad_z=with_entry((3, 2), (2, 1), 1e308), noise=np.full((3, 2), 10.0)), "/grad_z/2/1"),
    (valid(mu=np.ones(())), "/mu"),
    (valid(mu=np.ones((1, 3, 2))), "/mu"),
    (valid(mu=np.ones((0, 2))), "/mu"),
    (valid(scale=np.ones(2)), "/sigma"),
    (valid("softplus", scale=np.ones((3, 1))), "/softplus"),
    (valid("scale_tril", scale=np.eye(2)), "/scale_tril"),
    (valid(noise=np.ones((3, 3))), "/noise"),
    (valid(grad_z=np.ones((2, 3))), "/grad_z"),
    (valid(kl_weight=-1.0), "/kl_weight"),
    (valid(kl_weight=np.nan), "/kl_weight"),
    (valid()._replace(parametrization="variance"), "/parametrization"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("job", "pointer"), BAD)
def test_what_cannot_be_computed_is_refused_and_named(job: ReparameterizationJob, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        reparameterize(job)
    assert caught.value.pointer == pointer
    assert caught.value.allowed is not None


def test_an_error_says_the_value_and_the_element() -> None:
    one = np.ones(2)
    job = ReparameterizationJob(one, np.array([0.0, 2000.0]), "log_variance", one, one)
    with pytest.raises(InvalidInput, match=r"log_variance\[1\] = 2000\.0: z overflows float64"):
        reparameterize(job)


# Noise


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), rows=st.integers(1, 30), more=st.integers(0, 300), width=st.integers(1, 9))
def test_row_b_of_the_noise_does_not_depend_on_the_number_of_rows(seed: int, rows: int, more: int, width: int) -> None:
    short, long = draw_noise(seed, (rows, width)), draw_noise(seed, (rows + more, width))
    assert short.tobytes() == long[:rows].tobytes()
    assert draw_noise(seed, width).tobytes() == draw_noise(seed, (width,)).tobytes() == short[0].tobytes()


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), short=st.integers(1, 300), more=st.integers(0, 3000))
def test_shorter_noise_is_a_prefix_of_longer(seed: int, short: int, more: int) -> None:
    assert draw_noise(seed, short).tobytes() == draw_noise(seed, short + more)[:short].tobytes()


def test_noise_is_the_same_every_time_and_differs_between_seeds() -> None:
    seeds = [0, 1, 2, 2**32, 2**63, 2**64 - 1]
    drawn = [draw_noise(seed, 4).tobytes() for seed in seeds]
    assert drawn == [draw_noise(seed, 4).tobytes() for seed in seeds]
    assert len(set(drawn)) == len(seeds)


def test_noise_is_pinned_to_known_values() -> None:
    np.testing.assert_array_equal(draw_noise(2**64 - 1, 2), [-2.7686715823603945, 1.6779206516595908])


def test_noise_neither_reads_nor_moves_global_generators() -> None:
    np.random.seed(0)  # noqa: NPY002 - the global generator is what is watched
    torch.manual_seed(0)
    expected = np.random.standard_normal(), float(torch.randn(()))  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    draw_noise(3, 10)
    assert (np.random.standard_normal(), float(torch.randn(()))) == expected  # noqa: NPY002


def test_noise_is_standard_normal_also_across_seeds() -> None:
    n = 100_000
    stream, first = draw_noise(11, n), np.array([draw_noise(seed, 1)[0] for seed in range(5000)])
    for sample in (stream, first):
        # Standard errors: 1/√n of the mean, √(2/n) of the variance, √(96/n) of the fourth moment, which is 3.
        bound = 5 / np.sqrt(len(sample))
        assert abs(sample.mean()) < bound
        assert abs((sample**2).mean() - 1) < bound * np.sqrt(2)
        assert abs((sample**4).mean() - 3) < bound * np.sqrt(96)


@pytest.mark.parametrize("seed", [-1, 2**64, True, 1.0, "1"])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        draw_noise(seed, 2)
    assert caught.value.pointer == "/seed"
