"""The names that the options of a registration may take, each list once."""

from __future__ import annotations

from typing import Literal, get_args

Transform = Literal["translation", "rigid", "similarity", "affine", "nonrigid"]
Prior = Literal["free", "uniform", "mixing"]
Normalize = Literal["rows", "columns", "sinkhorn"]
Init = Literal["auto", "identity", "centroid"]
Matching = Literal["nearest", "one_to_one"]
Sampling = Literal["auto", "all"]
Noise = Literal["auto", "isotropic", "surface"]

TRANSFORMS: tuple[Transform, ...] = get_args(Transform)
PRIORS: tuple[Prior, ...] = get_args(Prior)
NORMALIZES: tuple[Normalize, ...] = get_args(Normalize)
INITS: tuple[Init, ...] = get_args(Init)
MATCHINGS: tuple[Matching, ...] = get_args(Matching)
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)
NOISES: tuple[Noise, ...] = get_args(Noise)
