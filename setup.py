"""The one part of packaging that pyproject.toml cannot express: the folder `service` is installed as `latentserve`."""

from setuptools import find_packages, setup

packages = ["latentserve" + name.removeprefix("service") for name in find_packages(include=["service", "service.*"])]
setup(package_dir={"latentserve": "service"}, packages=packages)
