# REaaS: every task of the project. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# An activated virtual environment is used as it is; else one is made here.
VENV ?= $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
PYTHON ?= python3
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

DATASET ?= digits
DATA ?= $(REAAS_DATA)
OUT ?=
SEED ?= 1
DEMO_ARGS := --dataset $(DATASET) $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT)) --seed $(SEED) \
  $(if $(N),--samples $(N)) $(if $(TEST),--test $(TEST)) $(if $(TRAIN),--train $(TRAIN)) \
  $(if $(ENCODER),--encoder $(ENCODER))

BENCH_F2I_ARGS := $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT)) --seed $(SEED) \
  $(if $(IMAGES),--images $(IMAGES)) $(if $(BUDGET),--budget $(BUDGET)) $(foreach m,$(MODEL),--model $(m))

PRETRAINING_ARGS := $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT)) $(if $(TEST),--test $(TEST)) \
  $(if $(TRAIN),--train $(TRAIN)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(N),--seaas-samples $(N)) \
  $(foreach e,$(ENCODERS),--encoders $(e)) $(foreach d,$(DATASETS),--datasets $(d)) $(ARGS)

RECIPE ?= moco-sn
EPOCHS ?=
RUN ?= out/pretrain/$(RECIPE)
# The repository that `make serve` serves: a version that appears there is served within seconds.
MODELS ?= models
PRETRAIN_IMAGES := --data $(DATA) $(if $(SOURCE),--source $(SOURCE))

##@ Use

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.reaas-demo ## Run REaaS against SEaaS end to end (DATASET= DATA= N= TEST= TRAIN= SEED= ENCODER= OUT=)
	$(BIN)/python -m evaluation.demo $(DEMO_ARGS)

.PHONY: bench-f2i
bench-f2i: $(VENV)/.reaas-demo ## Measure the F2I engine against attacks (DATA= IMAGES= BUDGET= SEED= MODEL= OUT=)
	OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.bench_f2i $(BENCH_F2I_ARGS)

.PHONY: observe
observe: $(VENV)/.reaas-dev ## Bill clients over real services and a real Prometheus; run every rule and dashboard (OUT=)
	scripts/install_prometheus.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.observe $(if $(OUT),--out $(OUT))

.PHONY: hostile
hostile: $(VENV)/.reaas-dev ## Fuzz all services, a hostile neighbour, 15 minutes of chaos (REQUESTS= SEED= MINUTES= OUT=)
	OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.hostile fuzz $(if $(REQUESTS),--requests $(REQUESTS)) --seed $(SEED) \
	  $(if $(OUT),--out $(OUT)/fuzz.json)
	OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.hostile neighbour --seed $(SEED)
	OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.hostile chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(OUT),--out $(OUT)/chaos.json)

.PHONY: evaluate-pretraining
evaluate-pretraining: $(VENV)/.reaas-demo ## Compare the encoders on data sets; goes on where it was cut off (DATA= TEST= TRAIN= SEEDS= N= ENCODERS= DATASETS= OUT= ARGS=)
	OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.pretraining $(PRETRAINING_ARGS)

.PHONY: serve
serve: $(VENV)/.reaas-demo ## Run both services on loopback without keys, until Ctrl-C
	$(BIN)/python -m evaluation.serve

.PHONY: pretrain
pretrain: $(VENV)/.reaas-dev ## Pre-train an encoder and publish it (RECIPE= DATA=dir SOURCE=dir|name EPOCHS= RUN=dir MODELS=dir); resumes a run that was cut off
	@test -n "$(DATA)" || { echo "DATA= must name the directory of the data sets: tiny_imagenet.npz, or what SOURCE= says"; exit 2; }
	$(BIN)/python -m reaas_pretrain train --recipe services/pretrain/recipes/$(RECIPE).toml $(PRETRAIN_IMAGES) \
	  --out $(RUN) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(wildcard $(RUN)/checkpoint.pt),--resume)
	$(BIN)/python -m reaas_pretrain export --run $(RUN) --models $(MODELS) $(PRETRAIN_IMAGES)

# Options for the engine, for example a proxy's certificate: BUILD_ARGS="--volume /etc/ssl/certs:/etc/ssl/certs:ro".
ENGINE ?= docker
TAG ?= 0.1.0
BUILD_ARGS ?=
# Tagged with the name in full: podman would make `reaas-f2i` a `localhost/reaas-f2i`, which no node looks for.
IMAGES := encoder f2i pretrain models

.PHONY: images
images: ## Build the container images and check their sizes (ENGINE=docker|podman TAG= BUILD_ARGS=)
	for target in $(IMAGES); do \
	  $(ENGINE) build $(BUILD_ARGS) --file deploy/docker/Dockerfile --target $$target --tag docker.io/library/reaas-$$target:$(TAG) .; \
	done
	$(PYTHON) scripts/check_image_sizes.py --engine $(ENGINE) --tag $(TAG)

##@ Develop

# One thread a test process: the threads of two processes on two cores would wait for each other.
.PHONY: test
test: lint types ## Install everything, lint, type-check and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

.PHONY: test-slow
test-slow: $(VENV)/.reaas-dev ## Run the slow tests: long attacks, larger networks
	$(BIN)/python -m pytest -m slow

.PHONY: test-mutation
test-mutation: $(VENV)/.reaas-dev ## Plant known mistakes in the engine, and say which test catches each
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutation

.PHONY: lint
lint: $(VENV)/.reaas-dev ## Check style, imports, the contract and that the stubs are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/python scripts/check_breaking.py
	$(BIN)/python scripts/generate_stubs.py --check
	$(BIN)/python -m scripts.dashboards --check
	$(BIN)/python scripts/operator_rules.py --check
	$(BIN)/python scripts/lock_images.py --check

.PHONY: types
types: $(VENV)/.reaas-dev ## Check the types (mypy, strict)
	$(BIN)/mypy

# In an environment of its own: it pins a hundred packages that ours has in other versions.
.PHONY: checkov
checkov: ## Check the Kubernetes manifests for security (deploy/k8s/.checkov.yaml: exceptions and why)
	test -x .venv-checkov/bin/checkov || { $(PYTHON) -m venv .venv-checkov && \
	  .venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30; }
	mkdir -p out/k8s
	for overlay in dev prod gpu; do kubectl kustomize deploy/k8s/overlays/$$overlay > out/k8s/$$overlay.yaml; done
	.venv-checkov/bin/checkov --config-file deploy/k8s/.checkov.yaml --file out/k8s/*.yaml

.PHONY: format
format: $(VENV)/.reaas-dev ## Format the code and the contract
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

.PHONY: protos
protos: $(VENV)/.reaas-dev ## Generate the Python stubs from protos/
	$(BIN)/python scripts/generate_stubs.py

.PHONY: dashboards
dashboards: $(VENV)/.reaas-dev ## Generate Grafana's dashboards and the operator's rules
	$(BIN)/python -m scripts.dashboards
	$(BIN)/python scripts/operator_rules.py

.PHONY: chart
chart: $(VENV)/.reaas-dev ## Bring the objects of deploy/k8s into the Helm chart (after a change of either)
	$(BIN)/python scripts/helm_chart.py

.PHONY: constraints
constraints: $(VENV)/.reaas-dev ## Pin what is installed now in constraints.txt
	$(BIN)/python scripts/pin_constraints.py

.PHONY: locks
locks: $(VENV)/.reaas-dev ## Lock what the images install, with hashes (on Linux x86-64 with Python 3.11)
	$(BIN)/python scripts/lock_images.py

.PHONY: clean
clean: ## Remove outputs and caches (not the virtual environment)
	rm -rf out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One stamp for each set of extras: installed again when a pin or a dependency changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.reaas-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing REaaS with what the demo needs (once) ..."
	$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.reaas-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing REaaS with the development tools (once) ..."
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.reaas-demo
