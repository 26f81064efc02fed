# The two commands of the README need Python >= 3.11 and make; everything else comes from package registries by the lock file.
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
BIN := .venv/bin
export PYTHONWARNINGS ?= ignore
ARGS ?=
CHAIN ?= localnet

.PHONY: docs help setup demo ui test check format programs lock chaos faults drill chaos-stream soak fuzz play clean

help: ## List what can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(UV):
	@echo "bootstrapping uv $(UV_VERSION)"
	@$(PYTHON) -c 'import sys; sys.exit("Python was %s.%s, must be 3.11 or 3.12: set PYTHON=python3.11" % sys.version_info[:2] if sys.version_info[:2] not in ((3, 11), (3, 12)) else 0)'
	@$(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.synced: requirements.lock pyproject.toml | $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@echo "installing the locked environment"
	@$(UV) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/.synced ## Install the locked environment

demo: .venv/.synced ## Play and settle a neighbourhood's day (ARGS="--seed 2 --epochs 8", CHAIN=validator)
	@$(BIN)/gridtokenx demo --chain $(CHAIN) $(ARGS)

ui: .venv/.synced ## Open the Dagster UI on the demo's data
	@$(BIN)/gridtokenx ui $(ARGS)

check: .venv/.synced ## Linters, formatters and types; clippy and rustfmt where cargo is found
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@if command -v cargo >/dev/null; then \
	  cd programs && cargo fmt --all --check && cargo clippy --quiet --locked --all-targets -- -D warnings; \
	else echo "skipped: clippy and rustfmt, no cargo on this machine"; fi

test: check ## Linters, types and all tests
	@if command -v cargo >/dev/null; then cd programs && cargo test --quiet --locked; \
	else echo "skipped: the programs' unit tests, no cargo on this machine"; fi
	@$(BIN)/pytest $(ARGS)

docs: .venv/.synced ## Build the documentation as a site (build/site), no warning allowed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo "build/site/index.html"

chaos: .venv/.synced ## Kill the demo, then the settlement 200 times at random, compare the end states (KILLS, ARGS)
	@$(BIN)/python tests/chaos/kill_demo.py $(ARGS)
	@$(BIN)/python tests/chaos/kill_settlement.py --kills $${KILLS:-200} --seed $${SEED:-1}

faults: .venv/.synced ## Random days through crashes and RPC faults (RUNS, SEED replays)
	@$(BIN)/python tests/chaos/settlement_faults.py --seed $${SEED:-1} --runs $${RUNS:-20}

drill: .venv/.synced ## Lose Postgres twice on real servers: point-in-time recovery, a promoted replica; clock and compare
	@$(BIN)/python tests/chaos/restore_drill.py

chaos-stream: .venv/.synced ## Kill the flow, a broker, Postgres, InfluxDB under load on real Kafka; count (ARGS="--seed 2")
	@$(BIN)/python tests/chaos/chaos_stream.py $(ARGS)

soak: .venv/.synced ## Half an hour of readings through the flow on real Kafka: memory over time (ARGS="--seconds 300")
	@$(BIN)/python benchmarks/streaming_soak.py $(ARGS)

fuzz: .venv/.synced ## Random data and accounts to every instruction, ten minutes (FUZZ_SECONDS, FUZZ_SEED)
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-600} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} $(BIN)/pytest -q -s tests/chain/test_fuzz_programs.py

play: .venv/.synced ## Thousands of random legal and illegal actions on the programs (PLAY_EXAMPLES, PLAY_STEPS)
	@PLAY_EXAMPLES=$${PLAY_EXAMPLES:-100} PLAY_STEPS=$${PLAY_STEPS:-200} $(BIN)/pytest -q -s tests/chain/test_play.py

programs: ## Rebuild programs/deploy/*.so and compare with the committed hashes
	@bash programs/build.sh --check

format: .venv/.synced ## Format the Python and Rust sources
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && cd programs && cargo fmt --all

lock: | $(UV) ## Resolve the dependencies anew
	@$(UV) pip compile pyproject.toml --group dev --universal --generate-hashes --python-version 3.11 --no-header --upgrade --quiet -o requirements.lock

clean: ## Remove the environment and all demo data
	@rm -rf .venv .tools .gridtokenx build programs/target
