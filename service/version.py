"""The version of this build, from the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("latentserve")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0+unknown"
