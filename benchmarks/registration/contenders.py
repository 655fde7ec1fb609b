"""The contenders, Latentserve and its peers, behind one common call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from benchmarks.registration import peers
from benchmarks.registration.tasks import Answer, Solve, Task


class Contender(NamedTuple):
    """A registration method. `start` imports the library and returns the function to be timed."""

    package: str  # name of the distribution
    settings: str  # printed above the tables
    start: Callable[[], Solve]
    nonrigid: bool = False
    plane: bool = True  # accepts 2-D clouds
    searches: bool = False  # global search: used only for large displacements
    thins: bool = False  # merges the points of each voxel: used only for scans
    dense: bool = False  # memory or time rules out 50,000 points
    warm_up: int = 300  # points of the problem that is registered before timing starts


def _latentserve() -> Solve:
    torch: Any = import_module("torch")
    torch.set_num_threads(1)
    register_batch: Any = import_module("service.em.register").register_batch
    problem: Any = import_module("service.em.problem").Problem

    def posed(task: Task) -> Any:
        return problem(
            task.source,
            task.target,
            transform=task.transform,
            init=task.init,
            registered=task.transform == "nonrigid",
        )

    def answered(task: Task, outcome: Any) -> Answer:
        turn = np.eye(task.source.shape[1]) if outcome.linear is None else outcome.linear
        return Answer(
            turn,
            outcome.translation,
            outcome.registered,
            outcome.converged,
            outcome.translation_covariance,
            outcome.rotation_covariance,
        )

    def solve(tasks: Sequence[Task]) -> list[Answer]:
        outcomes = register_batch([posed(task) for task in tasks])
        return [answered(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]

    return solve


OURS = "Latentserve"
THINNED = "voxels and reach of the scans; 100 iterations, 1e-5 rad, 1e-6"

CONTENDERS: dict[str, Contender] = {
    OURS: Contender("latentserve", "float64, the defaults of the service", _latentserve, nonrigid=True, warm_up=10_000),
    "pycpd": Contender("pycpd", "the defaults; w = the true fraction", peers.pycpd_cpd, nonrigid=True, dense=True),
    "probreg CPD": Contender(
        "probreg", "maxiter 100; w = the true fraction; scale estimated", peers.probreg_cpd, nonrigid=True, dense=True
    ),
    "probreg FilterReg": Contender("probreg", "sigma2=None, update_sigma2=True", peers.probreg_filterreg, dense=True),
    "rustcpd": Contender(
        "rustcpd",
        "exact, single_precision=True, normalize=True, scale=False",
        peers.rustcpd_cpd(single_precision=True),
        nonrigid=True,
        dense=True,
    ),
    "rustcpd k=10": Contender("rustcpd", "k=10 nearest, normalize=True, scale=False", peers.rustcpd_cpd(k=10)),
    "rustcpd search": Contender(
        "rustcpd",
        "pose_initialize (193 rotations), then register_rigid",
        peers.rustcpd_search,
        plane=False,
        searches=True,
        dense=True,
    ),
    "Open3D ICP": Contender(
        "open3d", "legacy, point to point, its default 30 iterations, 1e-6", peers.open3d_icp(30, 1e-6)
    ),
    "Open3D ICP 100": Contender("open3d", "legacy, point to point, 100 iterations, 1e-7", peers.open3d_icp(100, 1e-7)),
    "Open3D search": Contender(
        "open3d",
        "FPFH, RANSAC of 100,000, then ICP: the tutorial's pipeline",
        peers.open3d_search,
        plane=False,
        searches=True,
    ),
    "small_gicp ICP": Contender("small_gicp", "its default 20 iterations, 0.1°, 1e-3", peers.small_gicp_align("ICP")),
    "small_gicp ICP 100": Contender(
        "small_gicp",
        "100 iterations, 1e-5 rad, 1e-6",
        peers.small_gicp_align("ICP", max_iterations=100, rotation_epsilon=1e-5, translation_epsilon=1e-6),
    ),
    "small_gicp GICP": Contender(
        "small_gicp",
        "20 neighbours, 100 iterations, 1e-5 rad, 1e-6",
        peers.small_gicp_align("GICP", max_iterations=100, rotation_epsilon=1e-5, translation_epsilon=1e-6),
    ),
    "small_gicp ICP, thinned": Contender("small_gicp", THINNED, peers.small_gicp_thinned("ICP"), thins=True),
    "small_gicp plane, thinned": Contender("small_gicp", THINNED, peers.small_gicp_thinned("PLANE_ICP"), thins=True),
    "small_gicp GICP, thinned": Contender("small_gicp", THINNED, peers.small_gicp_thinned("GICP"), thins=True),
}
