# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each target first runs `testbed.bootstrap`, which installs what the target needs and lacks.

PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: help demo cluster down test test-unit test-contract test-cluster test-e2e test-faults \
	test-scale test-testbed test-versions check bench crd dist docs locks

programs = .venv/bin
ready = @$(PYTHON) -m testbed.bootstrap $@
testbed = @$(programs)/python -m testbed
# Tests spend most of their time waiting for pods, so there are more workers than cores; the tests'
# plugin mixes those that wait with those that compute.
WORKERS ?= 4
pytest = @$(programs)/python -m pytest
export NO_MKDOCS_2_WARNING = 1 # an advertisement of the site's theme
parallel = --numprocesses=$(WORKERS) --dist=loadgroup

help: ## print this
	@sed -n 's/^\([a-z][^:]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 46

demo: ## run an example flow on a real cluster, from nothing to Completed
	$(ready)
	$(testbed) demo

cluster: ## start the cluster
	$(ready)
	$(testbed) up

down: ## end the cluster and remove everything of it
	$(ready)
	$(testbed) down

test: ## the checks, then all tests on one server and one cluster, with the smoke set of the faults
	$(ready)
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target up-with-images $(checks)
	$(pytest) $(parallel) -m "not extended and not alone" tests/testbed tests/e2e tests/cluster tests/faults tests/contract
	$(pytest) -m alone tests/faults tests/scale

.PHONY: up-with-images
up-with-images: # the + shows its progress at once, and not as a whole like the output of the checks
	+$(testbed) $@

test-unit: ## tests without any server
	$(ready)
	$(pytest) tests/unit

test-contract: ## tests on a real Prefect server and a real kube-apiserver
	$(ready)
	$(testbed) up
	$(pytest) $(parallel) tests/contract

test-scale: ## many bindings in one process; alone, because CPU time is measured
	$(ready)
	$(testbed) up
	$(pytest) tests/scale

test-cluster test-e2e test-faults test-testbed: test-%: ## the same, with pods; all of the faults; the testbed itself
	$(ready)
	$(testbed) up-with-images
	$(pytest) $(parallel) tests/$*

test-versions: ## claims and Jobs with each version of Prefect and Kubernetes; PREFECT=3.6, KUBERNETES=1.35: one
	$(ready)
	@WORKERS=$(WORKERS) $(programs)/python -m testbed $@

check: ## format, lint, types, import contracts, generated files, the site, unit tests
	$(ready)
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target $(checks)

# Two run at a time, each to its end, and its output is shown as a whole; the longest starts first.
checks = check-units check-types check-imports check-generated check-docs check-lint check-format
.PHONY: $(checks)
check-units: run = pytest -q --numprocesses=2 tests/unit
check-types: run = mypy
check-imports: run = lint-imports
check-generated: run = python -m testbed.generated
check-docs: run = mkdocs build --strict # not --quiet, with which nothing fails
check-lint: run = ruff check
check-format: run = ruff format --check
$(checks):
	@echo "--- $(run)" && $(programs)/$(run)

bench: ## time to the Job, throughput, fairness and cost, compared with the stock worker's
	$(ready)
	$(testbed) up-with-images
	@$(programs)/python -m benchmarks

crd: ## write the CRD from the model
	$(ready)
	$(testbed) crd

dist: ## build wheel, image archive, chart package, SBOM and checksums into dist/
	$(ready)
	$(testbed) dist

docs: ## serve the documentation's site on http://127.0.0.1:8000; `make check-docs` only builds it, into site/
	$(ready)
	@$(programs)/mkdocs serve --strict

locks: ## resolve the dependencies again
	$(ready)
	$(testbed) locks
