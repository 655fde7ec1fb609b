"""The estimating equations of a pose between surfaces: the forces across the patches.

A point stands for its patch, and where on the patch it was sampled says little of the pose. But the likelihood draws
every point along its patch to where the other cloud has points, such as over the border of the overlap into it. So the
climb ends near the pose that solves

    Σ_i s_i = 0,   s_i = (x_i × g_i, g_i),   g_i = (κ I + (1 - κ) m_i m_iᵀ) f_i,   f_i = Σ_j r_ij C⁻¹ d_ij

with the turned normal m of a point (zero if it has none): the components along the patches count κ times. They still
determine what nothing else does. With κ = 1 these are the equations of the likelihood.

Newton's method needs -∂s_i/∂(ω, v). With δx = ω × x + v and δm = ω × m, and with all C held,

    δf = -(Σ_j r C⁻¹ - Σ_j r (C⁻¹d)(C⁻¹d)ᵀ + f fᵀ) δx
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.definite import inverse
from ..kernel.fitting import rms_distance
from ..model import Parameters
from .mixture import Block, SurfaceMixture
from .motion import displaced, no_sums

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# κ, and that of the likelihood's equations. Errors of scans are the same for κ from .01 to .1.
ALONG, LIKELIHOOD = 0.05, 1.0
# Half the squared distance of the farthest pairs, in standard deviations. Each pair at the cutoff of the climb, 6,
# moves the sums by a step, so that the slopes would be a fifth too steep where many patches are rough.
CUTOFF = 9.0
# Newton's method ends after a step by less than TOLERANCE σ: the next one would be half of it or less. With a quarter
# of it the errors of scans are the same. After MOST_STEPS, or MOST_WAY τ from its start, it failed.
TOLERANCE, MOST_STEPS, MOST_WAY = 0.02, 12, 1.0


class Equations(NamedTuple):
    """The sums over the points of each of G cells, in the order of `motion.Sums`."""

    scores: Float64  # (G, 6) Σ s
    slopes: Float64  # (G, 6, 6) -Σ ∂s/∂(ω, v)

    def of(self, free: Int64) -> Equations:
        """The rows and columns of the numbers that may change."""
        return Equations(self.scores[:, free], self.slopes[:, free][:, :, free])


class Settled(NamedTuple):
    """A pose, and the equations that it solves, of the numbers that may change, by cells."""

    at: Parameters
    along: float  # κ
    equations: Equations


def equations(mixture: SurfaceMixture, at: Parameters, cells: Int64, along: float) -> tuple[Equations, Parameters]:
    """The equations at `at` for the cells (N,) of the source points, and `at` with its σ and outliers after an M-step.

    `along` is κ.
    """
    count = int(cells.max()) + 1
    found, sums = Equations(np.zeros((count, 6)), np.zeros((count, 6, 6))), no_sums()
    for block in mixture.blocks(at, cutoff=CUTOFF):
        add(found, block, cells[block.rows], along)
        mixture.gather(sums, block)
    return found, mixture.renoised(at, sums)


def add(found: Equations, block: Block, cells: Int64, along: float) -> None:
    """Add the points of a block to the sums of their `cells` (K,); `along` is κ."""
    moments = block.moments
    _add(
        block.moved,
        block.normals,
        moments.force,
        moments.precision - moments.spread,
        np.ascontiguousarray(cells),
        along,
        found.scores,
        found.slopes,
    )


@compiled
def _add(
    x: Float64,
    normals: Float64,
    force: Float64,
    information: Float64,
    cells: Int64,
    along: float,
    scores: Float64,
    slopes: Float64,
) -> None:
    """`add` of points x (3, K), with Σ r C⁻¹ - Σ r (C⁻¹d)(C⁻¹d)ᵀ as `information` (6, K)."""
    across = 1 - along
    for i in range(x.shape[1]):
        c = cells[i]
        a, b, z = x[0, i], x[1, i], x[2, i]
        m, n, p = normals[0, i], normals[1, i], normals[2, i]
        u, v, w = force[0, i], force[1, i], force[2, i]
        xx, yy, zz = information[0, i] + u * u, information[1, i] + v * v, information[2, i] + w * w
        xy, xz, yz = information[3, i] + u * v, information[4, i] + u * w, information[5, i] + v * w
        out = across * (m * u + n * v + p * w)
        g, h, k = along * u + out * m, along * v + out * n, along * w + out * p
        scores[c, 0] += b * k - z * h
        scores[c, 1] += z * g - a * k
        scores[c, 2] += a * h - b * g
        scores[c, 3] += g
        scores[c, 4] += h
        scores[c, 5] += k
        for e in range(6):
            # δx and δm of the perturbation e.
            if e == 0:
                da, db, dz, dm, dn, dp = 0.0, -z, b, 0.0, -p, n
            elif e == 1:
                da, db, dz, dm, dn, dp = z, 0.0, -a, p, 0.0, -m
            elif e == 2:
                da, db, dz, dm, dn, dp = -b, a, 0.0, -n, m, 0.0
            else:
                da, db, dz = 1.0 if e == 3 else 0.0, 1.0 if e == 4 else 0.0, 1.0 if e == 5 else 0.0
                dm, dn, dp = 0.0, 0.0, 0.0
            du, dv, dw = xx * da + xy * db + xz * dz, xy * da + yy * db + yz * dz, xz * da + yz * db + zz * dz
            # -δg of e.
            less = across * (m * du + n * dv + p * dw - dm * u - dn * v - dp * w)
            dg, dh, dk = (
                along * du + less * m - out * dm,
                along * dv + less * n - out * dn,
                along * dw + less * p - out * dp,
            )
            slopes[c, 0, e] += b * dk - z * dh - (db * k - dz * h)
            slopes[c, 1, e] += z * dg - a * dk - (dz * g - da * k)
            slopes[c, 2, e] += a * dh - b * dg - (da * h - db * g)
            slopes[c, 3, e] += dg
            slopes[c, 4, e] += dh
            slopes[c, 5, e] += dk


def settled(mixture: SurfaceMixture, start: Parameters, cells: Int64) -> Settled:
    """The pose near the end `start` of a climb that solves the equations. σ and the outliers take an M-step at `start`.

    `start` may be the end of a climb on a sample of the points. Where the equations determine no pose nearby, `start`
    is the answer. It solves those of the likelihood. `cells` (N,) are those of the source points.
    """
    scene, free, at = mixture.scene, mixture.free, start
    for k in range(MOST_STEPS):
        found, renoised = equations(mixture, at, cells, ALONG)
        found = found.of(free)
        slope = found.slopes.sum(0)
        if inverse((slope + slope.T) / 2) is None:
            break
        step = np.zeros(6)
        step[free] = np.linalg.solve(slope, found.scores.sum(0))
        after = displaced(at.transform, step)
        if rms_distance(scene.source, start.transform, after) > MOST_WAY * scene.tangential:
            break
        moved = rms_distance(scene.source, at.transform, after)
        at = (at if k else renoised)._replace(transform=after)
        if moved < TOLERANCE * at.sigma:
            # The scores after the last step, which is too short for another look at the points.
            return Settled(at, ALONG, found._replace(scores=found.scores - found.slopes @ step[free]))
    return Settled(start, LIKELIHOOD, equations(mixture, start, cells, LIKELIHOOD)[0].of(free))
