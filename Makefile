PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: browser cpp demo test faults fuzz gpu-check check format lint types env clean

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "paraexport needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[cpu,openvino,rtx,build]' -r requirements-dev.txt
	touch $@

demo: env
	$(BIN)/paraexport build models/digits.pt -o demo/digits.bundle --data calib/digits/test --force
	$(BIN)/paraexport predict demo/digits.bundle $$(for digit in calib/digits/test/*; do ls $$digit/*.png | head -n 1; done) --top 2
	@echo
	@echo "The bundle is demo/digits.bundle; open demo/digits.bundle/report.html."
	@echo "next: $(BIN)/paraexport validate demo/digits.bundle models/digits.pt"
	@echo "your own: $(BIN)/paraexport build CHECKPOINT --data FOLDER"

test: env browser
	$(BIN)/pytest -n auto

# Without npm, the tests of pages in a browser are skipped by name.
browser:
	@command -v npm > /dev/null \
	    || { echo "no npm: pages are not tested in a browser; apt install chromium nodejs npm" >&2; exit 0; }; \
	    [ tests/browser/node_modules -nt tests/browser/package.json ] \
	    || { npm install --prefix tests/browser --no-package-lock --ignore-scripts --no-audit --no-fund --silent \
	        && touch tests/browser/node_modules; } \
	    || echo "npm failed: pages are not tested in a browser" >&2

faults: env
	$(BIN)/python -m tests.faults
	$(BIN)/python -m tests.faults.kills
	$(BIN)/python -m tests.faults.replacements

# The headers of OpenVINO are in its Python package. Without `.venv` CMake looks elsewhere, and says what is missing.
cpp:
	@command -v cmake > /dev/null || { echo "make cpp needs cmake and a C++ compiler: apt install g++ cmake" >&2; exit 3; }
	sh cpp/cmake/fetch_headers.sh cpp/headers || true
	cmake -S cpp -B cpp/build/release -DCMAKE_BUILD_TYPE=Release \
	    $(if $(wildcard $(BIN)/python),-DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python)
	cmake --build cpp/build/release -j 2
	cmake --install cpp/build/release --prefix cpp/build/install

SECONDS ?= 600
fuzz: env
	sh cpp/cmake/fetch_headers.sh cpp/headers || true
	cmake -S cpp --preset fuzz -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build cpp/build/fuzz -j 2
	for name in manifest safetensors external_data pixels bundle image_file; do \
	    cpp/build/fuzz/fuzz/fuzz_$$name -seconds=$(SECONDS) -runs=1000000 -crash=cpp/build/fuzz/crash-$$name cpp/fuzz/corpus/$$name \
	        || exit 1; \
	done

gpu-check: env
	$(BIN)/python -m benchmarks.gpu.check -o gpu-check

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: env
	$(BIN)/mypy

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint types test

clean:
	rm -rf $(VENV) cpp/build cpp/headers tests/browser/node_modules demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
