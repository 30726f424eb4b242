# `make demo` sets up and shows a live feed analysed; `make test` sets up and passes the tests.
PYTHON ?= python3
VENV   := .venv

.PHONY: demo test test-heavy check fuzz audit sbom screenshots clean

demo: $(VENV)/run-ready
	$(VENV)/bin/sonostream demo

test: $(VENV)/dev-ready check
	$(VENV)/bin/pytest -n 2 --dist loadfile --max-worker-restart=0

# What takes too long for every change: about a quarter of an hour.
test-heavy: $(VENV)/dev-ready
	SONOSTREAM_HEAVY_TESTS=1 $(VENV)/bin/pytest -m heavy

check: $(VENV)/dev-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Coverage-guided, 20 s for each kind of input: `make fuzz FUZZ_SECONDS=600` for longer.
FUZZ_SECONDS ?= 20
fuzz: $(VENV)/dev-ready
	$(VENV)/bin/pip install --quiet --disable-pip-version-check 'atheris==3.0.0'
	$(VENV)/bin/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) --jobs 2

# Known vulnerabilities in what the tests run with; says so where there is nobody to ask.
audit: $(VENV)/dev-ready
	$(VENV)/bin/pip install --quiet --disable-pip-version-check 'pip-audit==2.10.1'
	$(VENV)/bin/python .ci/audit.py constraints.txt

# What a scanner-side machine gets, listed as CycloneDX; part of a release.
sbom: $(VENV)/bin/python
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet --disable-pip-version-check -c constraints.txt '.[formats,kserve]'
	$(VENV)/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom==7.5.0'
	mkdir -p dist
	$(VENV)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sonostream.cdx.json build/sbom/bin/python

# The pictures of the documentation, made from the phantom in Chromium.
screenshots: $(VENV)/dev-ready
	$(VENV)/bin/python -m benchmarks.screenshots

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Two stamps, because running needs a tenth of what developing does.
$(VENV)/run-ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/dev-ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/run-ready

clean:
	rm -rf $(VENV) build dist *.egg-info
