# `make run` and `make test` are all that a fresh machine needs; each sets up what it uses.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PURE := kdns/wire/*,kdns/zone/*,kdns/cluster/*,kdns/corefile/*
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: chart dev e2e help run test lint format types imports unit lock clean image-check tools perf perf-quick

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run ## serve the example cluster on 127.0.0.1:1053
	@printf '%s\n' '' 'Serving examples/shop. In another terminal:' '' \
	  '  dig @127.0.0.1 -p 1053 +short cart.shop.svc.cluster.local' \
	  '  dig @127.0.0.1 -p 1053 +short _postgres._tcp.db.shop.svc.cluster.local SRV' \
	  '  dig @127.0.0.1 -p 1053 +short -x 10.96.0.10' '' 'Ctrl-C stops it.' ''
	@exec $(BIN)/kdns serve -conf examples/Corefile --manifests examples/shop

test: lint types imports unit ## everything that must pass: lint, types, imports, tests, coverage

dev: $(VENV)/dev ## set up what the tests and perf need, and no more

lint: $(VENV)/dev ## ruff, both as linter and as formatter
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/dev ## mypy --strict, tests and perf included
	$(BIN)/mypy

imports: $(VENV)/dev ## import-linter: imports go one way, and the core is pure
	$(BIN)/lint-imports

unit: $(VENV)/dev ## the tests, and the coverage of the pure packages
	$(BIN)/coverage erase
	PYTHONASYNCIODEBUG=1 $(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include '$(PURE)' --fail-under 100

format: $(VENV)/dev ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

chart: $(VENV)/dev ## render and judge the chart, the overlays, the alerts and the dashboard
	$(BIN)/python -m pytest tests/deploy tests/image

e2e: $(VENV)/dev ## put kdns into the cluster that KUBECONFIG names, and out again
	@test -n "$$KUBECONFIG" || { echo 'KUBECONFIG must name a cluster that may be changed'; exit 1; }
	KDNS_E2E=1 $(BIN)/python -m pytest tests/e2e

image-check: $(VENV)/dev ## as root: every line of the Dockerfile in a fresh Debian, and the result asked
	$(BIN)/python -m tests.image.stand_in --work /var/tmp/kdns-image

perf: $(VENV)/dev ## measure everything beside the peers, in forty minutes: perf.json, perf.html
	$(BIN)/python -m perf $(if $(COREDNS),--coredns $(COREDNS)) --json perf.json --html perf.html

perf-quick: $(VENV)/dev ## the commonest questions over UDP, in less than three minutes
	$(BIN)/python -m perf --quick --json perf.json --html perf.html

# The package itself comes last and without dependencies: every one of them is locked by hash.
$(VENV)/run: requirements/run.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/run
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	touch $@

# Helm as its own releases are built: it takes a cluster that it cannot ask for one of this version.
HELM := helm.sh/helm/v3
HELM_VERSION := v3.22.0
KUBERNETES_MINOR := 37
tools: ## helm, as a Go tool, for the tests of the chart; some minutes, once
	@if test -x $(BIN)/helm; then :; \
	elif ! command -v go >/dev/null; then echo 'No Go here: the tests of the chart that need helm are skipped.'; \
	else mkdir -p $(BIN) && GOBIN=$(CURDIR)/$(BIN) CGO_ENABLED=0 go install -trimpath -ldflags \
	  '-s -w -X $(HELM)/pkg/chartutil.k8sVersionMajor=1 -X $(HELM)/pkg/chartutil.k8sVersionMinor=$(KUBERNETES_MINOR)' \
	  $(HELM)/cmd/helm@$(HELM_VERSION); fi

lock: ## resolve requirements/*.txt anew
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install uv
	$(LOCK) pyproject.toml requirements/build.in --output-file requirements/run.txt
	$(LOCK) pyproject.toml requirements/build.in --extra dev --extra perf \
	  --constraint requirements/run.txt --output-file requirements/dev.txt

clean: ## forget everything that was set up
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist
