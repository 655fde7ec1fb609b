# `make serve` runs the service, `make test` tests it. Both first install what they need into .venv.

PORT ?= 8000
PYTHON ?= python3
# The small CPU build of PyTorch: TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# The recipe that `make train` uses, and the folder of MNIST.
RECIPE ?= default
DATA ?= data
# The published folder that `make evaluate` measures.
CHECKPOINTS ?= checkpoints
# The tests to run, and more options of pytest.
TESTS ?= tests
PYTEST_ARGS ?=
# Number of test processes. 0 runs the tests in pytest's own process, as a debugger needs.
WORKERS ?= 2
# Options of test-portable: `--quick` runs half of it.
PORTABLE_ARGS ?=
# Options of audit: `--ignore-vuln ID` accepts a vulnerability.
AUDIT_ARGS ?=
# Options of bench and bench-registration, such as `--quick` or `--scenario speed`.
BENCH_ARGS ?=
# Length of the soak (an hour by default), or of each target of fuzz (a minute by default); empty takes the default.
SECONDS ?=
# Number of requests that fuzz-http sends.
COUNT ?= 100000
# Options of soak, chaos and fuzz-http, such as `--quick`, `--scenario kill` or `--seed 1`.
FAULT_ARGS ?=

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help serve test test-portable compile check audit train evaluate venv bench bench-registration soak chaos fuzz fuzz-http test-compose clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: .venv/serving ## run the service on 127.0.0.1:$(PORT)
	@exec $(BIN)/python -m service serve --port $(PORT)

test: .venv/complete ## run all tests except those of the container image
	@$(MAKE) --no-print-directory compile
	$(BIN)/python -m pytest -m "not compose" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS) $(TESTS)

test-portable: .venv/complete ## run the numeric tests with fewer processor instructions; PORTABLE_ARGS=--quick for half
	$(BIN)/python -m tests.portable --workers $(WORKERS) $(PORTABLE_ARGS)

# Fills Numba's cache once. Otherwise each test process would compile the same loops.
compile: .venv/complete
	@$(BIN)/python -m service compile

check: .venv/complete ## check style, types, import contracts, and the image's packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@$(BIN)/python deploy/audit.py $(AUDIT_ARGS)

audit: .venv/complete ## compare the image's packages with the known vulnerabilities
	@$(BIN)/python deploy/audit.py $(AUDIT_ARGS)

train: .venv/complete ## train a GAN on the MNIST in DATA, which is downloaded if it is missing
	$(BIN)/python -m training gan --recipe $(RECIPE) --data $(DATA)

evaluate: .venv/complete ## measure the networks in CHECKPOINTS and compare the results with the model card
	$(BIN)/python -m training evaluate $(CHECKPOINTS) --data $(DATA)

venv: .venv/complete ## build the environment for tests and training

bench: .venv-serving-peers/complete ## put load on the service and on mosec, LitServe, BentoML, Ray Serve, FastAPI; takes an hour
	.venv-serving-peers/bin/python -m benchmarks.serving $(BENCH_ARGS)

bench-registration: .venv-peers/complete ## compare registration with pycpd, probreg, rustcpd, Open3D and small_gicp; takes an hour
	.venv-peers/bin/python -W ignore -m benchmarks.registration $(BENCH_ARGS)

soak: .venv/complete ## send a mixture of all requests for SECONDS, an hour by default; memory, descriptors and threads stay flat
	$(BIN)/python -m benchmarks.faults soak $(if $(SECONDS),--seconds $(SECONDS)) $(FAULT_ARGS)

chaos: .venv/complete ## kill, poison, stall and overload the service; FAULT_ARGS='--quick' takes three minutes
	$(BIN)/python -m benchmarks.faults chaos $(FAULT_ARGS)

fuzz: .venv/fuzzing ## fuzz the readers of arrays, images and clouds, each for SECONDS, a minute by default
	$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS))

fuzz-http: .venv/complete ## send COUNT mutated requests to the service
	$(BIN)/python -m benchmarks.faults fuzz --count $(COUNT) $(FAULT_ARGS)

test-compose: .venv/complete ## build the image, run it with compose, call it, stop it; needs a Docker engine
	$(BIN)/python -m pytest -m compose $(PYTEST_ARGS) tests/e2e/test_compose.py

clean: ## remove the environment and all caches
	rm -rf .venv .venv-peers .venv-serving-peers *.egg-info .*_cache .hypothesis .coverage

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }

# Stamp files: packages are installed once, and again when the dependencies change.
.venv/serving: pyproject.toml setup.py | .venv/bin/python
	@echo "installing what serving needs (PyTorch takes a minute or two, and 5 GB unless TORCH_INDEX names its CPU index) ..."
	@$(INSTALL) -e .
	@touch $@

.venv/complete: pyproject.toml setup.py | .venv/bin/python
	@echo "installing what tests and training need (PyTorch takes a minute or two, and 5 GB unless TORCH_INDEX names its CPU index) ..."
	@$(INSTALL) -e '.[dev]'
	@touch $@ .venv/serving

# The fuzzer has no wheels for some versions of Python that the tests run with.
.venv/fuzzing: .venv/complete
	@$(INSTALL) -e '.[fuzz]'
	@touch $@

# The peers have an environment of their own. Serving, tests and training do not need them.
.venv-peers/complete: benchmarks/requirements-registration.txt
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r $<
	@touch $@

# Latentserve is installed beside the peers of serving, so that all draw with the same torch.
.venv-serving-peers/complete: benchmarks/requirements-serving.txt pyproject.toml setup.py
	@$(PYTHON) -m venv .venv-serving-peers
	@.venv-serving-peers/bin/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r $< -e .
	@touch $@
