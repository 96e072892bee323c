# Everything starts here: `make help`.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
ENVIRONMENT := $(VENV)/.environment
PACKAGE := $(VENV)/.package
export CXX
.DEFAULT_GOAL := help
.PHONY: help setup spec csim emu pynq demo test rtl area lint bench hw hw_emu csynth clean distclean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z_]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 or CXX=clang++ chooses another interpreter or compiler."

setup: $(PACKAGE)  ## Create .venv with the exact versions of requirements.lock; XRT, where it may be installed

$(ENVIRONMENT): requirements.lock
	@for tool in $(PYTHON) make $(firstword $(CXX)); do \
	  command -v $$tool >/dev/null || { echo "error: $$tool not found: Bertile needs Python 3.10 to 3.13, make and a C++ compiler"; exit 1; }; done
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: Python 3.10 to 3.13 is needed, $$($(PYTHON) -V) found; try make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) lacks its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@# A CUDA build of torch does not even import without its libraries; its own metadata pins them.
	$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	@touch $@

# The package is installed in place; what is compiled is the XRT runtime.
$(PACKAGE): $(ENVIRONMENT) pyproject.toml setup.py $(wildcard host/runtime/*) hls/include/bertile_spec.hpp
	@sh host/install_xrt.sh
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

spec: setup  ## Regenerate the C++, SystemVerilog and documentation views of spec/
	$(PY) -m bertile.codegen

csim: setup  ## Build the C-simulation library
	$(PY) -m bertile.devices.build

emu: setup  ## Build the emulated U200: ENGINE=csim, or rtl for the Verilated engine
	$(PY) -m bertile.emulation --engine $(or $(ENGINE),csim)

PYNQ := build/pynq/venv
PYNQ_PIP := $(PYNQ)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps

pynq: $(PYNQ)/.environment  ## Install PYNQ 3.0.1 for host/pynq into build/pynq/venv (Python 3.11 or 3.12)

$(PYNQ)/.environment: host/pynq/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
	  { echo "error: PYNQ needs Python 3.11 or 3.12, $$($(PYTHON) -V) found; try make pynq PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(PYNQ)
	$(PYNQ_PIP) $$(grep -o '^setuptools==[^ ]*' $<)
	$(PYNQ_PIP) --no-build-isolation -r $<
	@printf '%s\n' '$(CURDIR)/python' '$(CURDIR)/host/pynq' > \
	  $$($(PYNQ)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bertile.pth
	@touch $@

demo: setup  ## Prune, quantize, pack and run the embedded MiniLM on the C-simulation
	$(PY) -m bertile.demo

test: lint  ## Lint, then run every test that this machine can run
	$(PY) -m pytest -ra -n logical --dist loadgroup

rtl: setup  ## Run the tests of the RTL engine alone: cocotb on Verilator
	$(PY) -m pytest -ra tests/rtl

area: setup  ## Estimate area and logic levels of the RTL engine with Yosys
	$(PY) -m bertile.synthesis

lint: setup  ## Check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: setup  ## Measure packing, C-simulation and, with GLUE=FOLDER, accuracy
	$(PY) -m bertile.perf.bench $(if $(GLUE),--data $(GLUE))

VITIS = @$(PY) -m bertile.vitis $@ --target '$(or $(TARGET),u200)' --engine '$(or $(ENGINE),rtl)' \
  $(if $(CLOCK),--clock '$(CLOCK)') $(if $(HEAD),--head '$(HEAD)') $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

hw: setup  ## Build the bitstream with Vitis 2022.1: TARGET=u200 ENGINE=rtl|hls HEAD=FOLDER; DRY_RUN=1 only prints
	$(VITIS)

hw_emu: setup  ## The same for Vitis hardware emulation
	$(VITIS)

csynth: setup  ## Synthesize the HLS kernels with Vitis HLS, for II, latency and area; DRY_RUN=1 only prints
	$(VITIS)

clean:  ## Remove what was built; .venv stays
	rm -rf build .pytest_cache .ruff_cache .hypothesis
	find python tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove .venv, too
	rm -rf $(VENV) python/*.egg-info
