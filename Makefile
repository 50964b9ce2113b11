# dukou. `make help` lists what can be done here; everything else is the `dukou` command.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The runtime's library, for the Rust tests; the engine itself is told by `dukou serve`.
ORT_DYLIB_PATH = $(shell ls $(CURDIR)/$(VENV)/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.* 2>/dev/null | head -n 1)

RUST_SOURCES := $(shell find crates spec -name '*.rs' -o -name '*.toml' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help demo test test-python test-rust bench lint format build wheel generate compatibility compare coverage lock check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

check: ## what this machine lacks, with one install command each
	@VERBOSE=1 scripts/preflight.sh --network

.stamps/venv: requirements/dev.txt
	@scripts/preflight.sh --network
	@echo "· Python environment ($(VENV))"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	@mkdir -p .stamps && touch $@

.stamps/engine: .stamps/venv $(RUST_SOURCES) dukou.data/scripts/dukou
	@scripts/preflight.sh
	@echo "· engine and package (cargo build --release, then an editable install)"
	@mkdir -p build
	@env -u CONDA_PREFIX VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --locked --quiet \
	  >build/engine.log 2>&1 || { cat build/engine.log >&2; exit 1; }
	@touch $@

# OpenVINO, for the tests: a runtime of its own, which lies beside the environment and never in it.
.stamps/openvino: .stamps/venv requirements/openvino.txt
	@echo "· OpenVINO's runtime, for the tests (build/openvino)"
	@rm -rf build/openvino
	@$(BIN)/pip install --quiet --require-hashes --no-deps --target build/openvino -r requirements/openvino.txt
	@touch $@

# Clients of other servers, and servers to compare with: environments of their own, never ours.
.stamps/%-venv: .stamps/venv requirements/%.txt
	@echo "· an environment for the tests (build/$*-venv)"
	@rm -rf build/$*-venv
	@$(PYTHON) -m venv build/$*-venv
	@build/$*-venv/bin/pip install --quiet --require-hashes -r requirements/$*.txt
	@touch $@

# TorchServe, to compare with. Its torch is the CPU build, which pip finds where PIP_FIND_LINKS says.
.stamps/torchserve-venv: .stamps/venv requirements/torchserve.txt
	@echo "· TorchServe, to compare with (build/torchserve-venv)"
	@rm -rf build/torchserve-venv
	@$(PYTHON) -m venv build/torchserve-venv
	@build/torchserve-venv/bin/pip install --quiet --require-hashes -r requirements/torchserve.txt
	@build/torchserve-venv/bin/pip install --quiet --no-deps "torch==2.13.0+cpu"
	@touch $@

# TensorFlow Serving's stubs, for the tests: without TensorFlow, which they would bring.
.stamps/tensorflow-serving: .stamps/venv requirements/tensorflow-serving.txt
	@echo "· TensorFlow Serving's stubs, for the tests (build/tensorflow-serving)"
	@rm -rf build/tensorflow-serving
	@$(BIN)/pip install --quiet --require-hashes --no-deps --target build/tensorflow-serving -r requirements/tensorflow-serving.txt
	@touch $@

build: .stamps/engine ## set up .venv, build the engine, install the package (editable)

demo: .stamps/engine ## one real model from training to a served endpoint (KEEP=1 leaves the server up)
	@$(BIN)/python examples/digits/demo.py $(if $(KEEP),--keep)

test: test-rust test-python ## every test, Rust and Python
	@echo "all tests passed"

test-rust: .stamps/engine
	@scripts/preflight.sh
	ORT_DYLIB_PATH=$(ORT_DYLIB_PATH) cargo test --workspace --locked --quiet

test-python: .stamps/engine .stamps/openvino .stamps/clients-venv .stamps/tensorflow-serving
	@scripts/preflight.sh
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

bench: .stamps/engine ## side by side with the peers; CASE=small-json for one, QUICK=1 for a short look
	@cargo build --release --locked --quiet -p bench-reference
	$(BIN)/python -m bench $(CASE) $(if $(QUICK),--quick)

lint: .stamps/engine ## formatters, linters, type checkers, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

format: .stamps/venv ## rewrite the sources as the formatters like them
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	cargo fmt --all

wheel: .stamps/venv ## the wheel, in dist/
	@$(BIN)/maturin build --release --locked --out dist

generate: .stamps/venv ## make the generated files anew (error pages, table schema, coverage)
	$(BIN)/python scripts/generate.py

compatibility: .stamps/engine .stamps/clients-venv .stamps/tensorflow-serving ## record how real clients fare (docs/compatibility.md)
	$(BIN)/python scripts/compatibility.py
	$(BIN)/python scripts/generate.py

compare: .stamps/engine .stamps/bench-venv .stamps/clients-venv .stamps/mlserver-venv .stamps/torchserve-venv ## ask Triton, TorchServe, KServe and MLServer the same, and record what differs (PEERS=… for some of them)
	$(BIN)/python scripts/compatibility.py peers $(PEERS)
	$(BIN)/python scripts/generate.py

coverage: ## what was asked for, demand by demand, and where it stands
	@$(PYTHON) scripts/coverage.py

lock: ## resolve the Python requirements anew (needs uv)
	for set in dev torch bench openvino clients mlserver torchserve tensorflow-serving; do uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	  --no-emit-find-links --no-strip-extras --no-header --generate-hashes $$(case $$set in openvino|tensorflow-serving) echo --no-deps;; esac) -o requirements/$$set.txt requirements/$$set.in; done

clean: ## remove what was built (not the registry under DUKOU_HOME)
	rm -rf $(VENV) .stamps target build dist demo
