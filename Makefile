# Assay: everything a newcomer or a maintainer needs. `make help` lists the targets.

PYTHON    ?= python3
VENV      ?= .venv
# auto: faiss-gpu where an NVIDIA GPU answers, faiss-cpu elsewhere (the two exclude each other).
FAISS     ?= auto
# auto: PyTorch's small CPU wheel where there is no GPU and PyTorch's own index answers; else the default wheel. cpu | default force it.
TORCH     ?= auto
TEST_ARGS ?=
# Test processes side by side, each with a Kafka of its own: tests wait more than they compute. JOBS=0: one, in this process.
JOBS      ?= 2
DEMO_ARGS ?=
BENCH     ?= pipeline
BENCH_ARGS ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.assay-installed

.DEFAULT_GOAL := help
.PHONY: help install demo test faults simulations lint bench constraints clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Options: DEMO_ARGS=\"--events 20000 --exit\"  TEST_ARGS=\"-k profile\"  BENCH=pipeline BENCH_ARGS=--json"
	@echo "           TORCH=cpu|default  FAISS=cpu|gpu  PYTHON=python3.12  VENV=.venv  JOBS=1"

install: $(STAMP) ## Install everything into $(VENV) (PyTorch: CPU wheel where possible; TORCH=cpu|default overrides)

$(STAMP): pyproject.toml constraints.txt .ci/install
	@PYTHON="$(PYTHON)" VENV="$(VENV)" FAISS="$(FAISS)" TORCH="$(TORCH)" bash .ci/install
	@touch $@

demo: install ## A simulated storefront through the whole pipeline, live in your terminal (needs no broker, no data)
	@$(BIN)/assay demo $(DEMO_ARGS)

test: install ## All tests, on a real Kafka, RocksDB, FAISS and BERT
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TEST_ARGS)

faults: install ## Every fault that the guarantees speak of, the slow ones too (tests/faults/README.md says how long they take)
	@$(BIN)/python -m pytest -n $(JOBS) --dist load --maxschedchunk 1 tests/faults tests/end_to_end -m "slow or not slow" -rP $(TEST_ARGS)

simulations: install ## What intervals cover over thousands of replays, the slow cases too (a quarter of an hour)
	@$(BIN)/python -m pytest tests/models -m slow -rP $(TEST_ARGS)

lint: install ## Style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: install ## Measure against peers in the same run (BENCH=pipeline|freshness|...)
	@$(BIN)/assay bench $(BENCH) $(BENCH_ARGS)

constraints: install ## Pin the whole tree anew from what is installed (maintainers)
	@{ echo "# Every package of the tree, for repeatable installs: pip install -c constraints.txt. Made by 'make constraints'."; \
	   $(BIN)/python -m pip freeze --exclude-editable --exclude assay --exclude faiss-gpu | grep -v -e '@ file' -e '^-e' | sed 's/+cpu$$//' | LC_ALL=C sort -f; } > constraints.tmp
	@mv constraints.tmp constraints.txt

clean: ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
