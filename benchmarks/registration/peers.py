"""One function for each peer, with the settings that its documentation recommends for such problems.

The peers ship no type hints, so each is imported by `import_module`, in the contender's own process.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.registration.shapes import Array
from benchmarks.registration.tasks import Answer, Solve, SolveOne, Task


def one_by_one(start: Callable[[], SolveOne]) -> Callable[[], Solve]:
    """Wrap a contender that has no batch interface."""

    def start_all() -> Solve:
        solve = start()
        return lambda tasks: [solve(task) for task in tasks]

    return start_all


@one_by_one
def pycpd_cpd() -> SolveOne:
    """CPD with the settings of its examples. This release cannot fix the scale, so it estimates the scale."""
    pycpd: Any = import_module("pycpd")

    def solve(task: Task) -> Answer:
        if task.transform == "nonrigid":
            return Answer(registered=pycpd.DeformableRegistration(X=task.target, Y=task.source).register()[0])
        fit = pycpd.RigidRegistration(X=task.target, Y=task.source, w=task.outliers)
        _, (_, turn, shift) = fit.register()
        return Answer(turn.T, np.ravel(shift))  # pycpd's rotation acts on rows

    return solve


@one_by_one
def probreg_cpd() -> SolveOne:
    """CPD with an estimated scale: with a fixed scale its variance is wrong and its rotations are off by degrees."""
    cpd: Any = import_module("probreg.cpd")

    def solve(task: Task) -> Answer:
        if task.transform == "nonrigid":
            fit = cpd.registration_cpd(task.source, task.target, "nonrigid", maxiter=100).transformation
            return Answer(registered=np.asarray(fit.transform(task.source)))
        found = cpd.registration_cpd(_in_space(task.source), _in_space(task.target), w=task.outliers, maxiter=100)
        return _in_plane(found.transformation.rot, found.transformation.t, task)

    return solve


@one_by_one
def probreg_filterreg() -> SolveOne:
    """FilterReg with an estimated variance, as in its example."""
    filterreg: Any = import_module("probreg.filterreg")

    def solve(task: Task) -> Answer:
        found = filterreg.registration_filterreg(
            _in_space(task.source), _in_space(task.target), sigma2=None, update_sigma2=True, w=task.outliers
        )
        return _in_plane(found.transformation.rot, found.transformation.t, task)

    return solve


def rustcpd_cpd(**options: object) -> Callable[[], Solve]:
    """CPD with normalised coordinates, as its guide recommends, and a fixed scale."""

    @one_by_one
    def start() -> SolveOne:
        rustcpd: Any = import_module("rustcpd")

        def solve(task: Task) -> Answer:
            if task.transform == "nonrigid":
                return Answer(registered=rustcpd.register_deformable(task.target, task.source, parallel=False).points)
            return Answer(*_rustcpd_rigid(rustcpd, task, task.source, **options))

        return solve

    return start


def _rustcpd_rigid(rustcpd: Any, task: Task, source: Array, **options: object) -> tuple[Array, Array]:
    found = rustcpd.register_rigid(
        task.target,
        source,
        scale=False,
        normalize=True,
        outlier_weight=task.outliers,
        parallel=False,
        **options,
    )
    return np.asarray(found.rotation).T, np.asarray(found.translation)  # rustcpd's rotation acts on rows


@one_by_one
def rustcpd_search() -> SolveOne:
    """Global search, which rustcpd offers for shape models, followed by rigid registration."""
    rustcpd: Any = import_module("rustcpd")

    def solve(task: Task) -> Answer:
        begin = rustcpd.pose_initialize(
            task.source,
            task.target,
            np.zeros((task.source.size, 1)),  # a shape model with one zero mode, so that only the rigid pose remains
            [1.0],
            with_scale=False,
            outlier_weight=max(task.outliers, 0.05),
            translation_anchor_count=6 if task.outliers else 1,
            parallel=False,
        )
        first, near = np.asarray(begin.rotation).T, np.asarray(begin.translation)
        last, rest = _rustcpd_rigid(rustcpd, task, np.ascontiguousarray(task.source @ first.T + near))
        return Answer(last @ first, last @ near + rest)

    return solve


def open3d_icp(iterations: int, change: float) -> Callable[[], Solve]:
    """Point-to-point ICP of the legacy module; the tensor module is many times slower on one thread."""

    @one_by_one
    def start() -> SolveOne:
        open3d: Any = import_module("open3d")
        registration = open3d.pipelines.registration

        def solve(task: Task) -> Answer:
            found = registration.registration_icp(
                _open3d_cloud(open3d, task.source),
                _open3d_cloud(open3d, task.target),
                task.reach,
                _begin(task),
                registration.TransformationEstimationPointToPoint(),
                registration.ICPConvergenceCriteria(change, change, iterations),
            )
            return _in_plane(found.transformation[:3, :3], found.transformation[:3, 3], task)

        return solve

    return start


@one_by_one
def open3d_search() -> SolveOne:
    """Global registration as in the tutorial: FPFH features, RANSAC, ICP."""
    open3d: Any = import_module("open3d")
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)  # no warnings on sparse clouds
    registration, geometry = open3d.pipelines.registration, open3d.geometry
    open3d.utility.random.seed(0)

    def solve(task: Task) -> Answer:
        clouds = [_open3d_cloud(open3d, task.source), _open3d_cloud(open3d, task.target)]
        # The tutorial's radii are multiples of the voxel size. These clouds are sparse: one point per voxel.
        voxel = 2 * float(np.mean(clouds[1].compute_nearest_neighbor_distance()))
        features = []
        for points in clouds:
            points.estimate_normals(geometry.KDTreeSearchParamHybrid(2 * voxel, 30))
            features.append(registration.compute_fpfh_feature(points, geometry.KDTreeSearchParamHybrid(5 * voxel, 100)))
        rough = registration.registration_ransac_based_on_feature_matching(
            *clouds,
            *features,
            True,
            1.5 * voxel,
            registration.TransformationEstimationPointToPoint(False),
            3,
            [
                registration.CorrespondenceCheckerBasedOnEdgeLength(0.9),
                registration.CorrespondenceCheckerBasedOnDistance(1.5 * voxel),
            ],
            registration.RANSACConvergenceCriteria(100_000, 0.999),
        )
        found = registration.registration_icp(
            *clouds, 1.5 * voxel, rough.transformation, registration.TransformationEstimationPointToPoint()
        )
        return _in_plane(found.transformation[:3, :3], found.transformation[:3, 3], task)

    return solve


def small_gicp_align(kind: str, **options: object) -> Callable[[], Solve]:
    """ICP or GICP on all points, without voxels. The time includes the tree and GICP's covariances."""

    @one_by_one
    def start() -> SolveOne:
        small_gicp: Any = import_module("small_gicp")

        def solve(task: Task) -> Answer:
            source, target = (
                small_gicp.PointCloud(_in_space(task.source)),
                small_gicp.PointCloud(_in_space(task.target)),
            )
            index = small_gicp.KdTree(target)
            if kind == "GICP":
                small_gicp.estimate_covariances(target, index)
                small_gicp.estimate_covariances(source, small_gicp.KdTree(source))
            found = small_gicp.align(
                target,
                source,
                index,
                _begin(task),
                registration_type=kind,
                max_correspondence_distance=task.reach,
                num_threads=1,
                **options,
            ).T_target_source
            return _in_plane(found[:3, :3], found[:3, 3], task)

        return solve

    return start


def small_gicp_thinned(kind: str) -> Callable[[], Solve]:
    """ICP (point to point), PLANE_ICP (to planes) or GICP on one point a voxel, by its call that takes two arrays.

    Its voxels are numbered with 21 bits a coordinate, so map coordinates are first taken about the target's centroid.
    """

    @one_by_one
    def start() -> SolveOne:
        small_gicp: Any = import_module("small_gicp")

        def solve(task: Task) -> Answer:
            centre = task.target.mean(axis=0)
            found = small_gicp.align(
                _in_space(task.target - centre),
                _in_space(task.source - centre),
                _begin(task),
                registration_type=kind,
                downsampling_resolution=task.voxel,
                max_correspondence_distance=task.reach,
                num_threads=1,
                max_iterations=100,
                rotation_epsilon=1e-5,
                translation_epsilon=1e-6,
            ).T_target_source
            about = _in_plane(found[:3, :3], found[:3, 3], task)
            return about._replace(translation=about.translation + centre - about.rotation @ centre)

        return solve

    return start


def _open3d_cloud(open3d: Any, points: Array) -> Any:
    return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(_in_space(points)))


def _begin(task: Task) -> Array:
    """Initial pose of an ICP (4, 4): the identity, or the translation that aligns the centroids."""
    begin = np.eye(4)
    if task.init == "auto":
        begin[:3, 3] = _in_space(task.target).mean(axis=0) - _in_space(task.source).mean(axis=0)
    return begin


def _in_space(points: Array) -> Array:
    """2-D points with a third coordinate of 0, for contenders that take only 3-D points."""
    return points if points.shape[1] == 3 else np.pad(points, ((0, 0), (0, 1)))


def _in_plane(turn: Array, shift: Array, task: Task) -> Answer:
    dimension = task.source.shape[1]
    return Answer(np.asarray(turn)[:dimension, :dimension], np.asarray(shift)[:dimension])
