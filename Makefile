# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each target says what it needs to `testbed.bootstrap`, which installs only what is missing.

PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: help demo cluster down test test-unit test-contract test-cluster test-e2e test-faults \
	test-scale check bench crd locks

ready = @$(PYTHON) -m testbed.bootstrap $@
testbed = @.venv/bin/python -m testbed
# Most of a test's time is spent waiting for pods, so there are more at work than there are cores.
WORKERS ?= 4
pytest = @.venv/bin/python -m pytest
parallel = --numprocesses=$(WORKERS) --dist=loadgroup

help: ## print this
	@sed -n 's/^\([a-z][^:]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 46

demo: ## run an example flow on a real cluster, from nothing to Completed
	$(ready)
	$(testbed) demo

cluster: ## bring the cluster up
	$(ready)
	$(testbed) up

down: ## end the cluster and leave nothing of it
	$(ready)
	$(testbed) down

test: check ## the checks, then all tests on one server and one cluster; of the faults a sample
	$(ready)
	$(testbed) up-with-images
	$(pytest) $(parallel) --sample-faults tests/cluster tests/contract tests/e2e tests/faults
	$(pytest) tests/scale

test-unit: ## tests without any server
	$(ready)
	$(pytest) tests/unit

test-contract: ## tests on a real Prefect server and a real kube-apiserver
	$(ready)
	$(testbed) up
	$(pytest) $(parallel) tests/contract

test-scale: ## many bindings in one process; alone, as what it takes is measured
	$(ready)
	$(testbed) up
	$(pytest) tests/scale

test-cluster test-e2e test-faults: test-%: ## the same, with pods; all of the faults
	$(ready)
	$(testbed) up-with-images
	$(pytest) $(parallel) tests/$*

check: ## format, lint, types, import contracts, generated files, unit tests
	$(ready)
	$(testbed) check

bench: ## time from run to Job, beside the stock worker
	$(ready)
	$(testbed) up-with-images
	@.venv/bin/python -m benchmarks

crd: ## write the CRD from the model
	$(ready)
	$(testbed) crd

locks: ## resolve the dependencies anew
	$(ready)
	$(testbed) locks
