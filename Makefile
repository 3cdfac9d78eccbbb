# Two commands: `make demo` shows it, `make test` proves it. Each sets up what it needs, in .venv and .funnelwatch/.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# What funnelwatch needs to run, and what its tests need as well.
RUNTIME := $(VENV)/.runtime
INSTALLED := $(VENV)/.installed
# What funnelwatch is measured against, in an environment of its own.
PEERS := .venv-peers
ARGS ?=
# The thousands of processes of the tests would each compile the same sources.
unexport PYTHONDONTWRITEBYTECODE
# Half of a test's time is waiting for servers: four processes on two processors, a test file in one of them.
PARALLEL ?= --numprocesses 4 --dist loadfile --no-loadscope-reorder

# COVERAGE=1 measures branches in every process that the tests start, and fails below the least share of them:
# for all tests that of pyproject.toml, for unit tests this one, %. Some tests alone (ARGS) have none to reach.
COVERAGE ?=
COVERED_BY_UNIT ?= 74
PYTEST = $(if $(COVERAGE),$(BIN)/coverage erase && $(BIN)/coverage run -m pytest,$(BIN)/pytest)
report = $(if $(COVERAGE),$(BIN)/coverage combine --quiet && \
	$(BIN)/coverage report --skip-covered --skip-empty --precision=1 $(if $(ARGS),--fail-under=0,$(1)))

.PHONY: help demo test coverage drill drill-short fuzz-decode bench bench-latency bench-growth bench-idle bench-producer bench-stages bench-page bench-detector bench-detector-start bench-flood bench-queries bench-backtest detection-report check format lock unit integration clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

demo: $(RUNTIME)  ## see it work (ARGS="--exit-when-done --json", ARGS="--help")
	@$(BIN)/funnelwatch demo $(ARGS)

test: $(INSTALLED)  ## all tests, on servers that they start themselves (ARGS="-k closer -x", COVERAGE=1)
	$(PYTEST) $(PARALLEL) $(ARGS)
	$(call report)

coverage:  ## all tests, and which branches of funnelwatch they take
	@$(MAKE) --no-print-directory test COVERAGE=1

drill: $(INSTALLED)  ## prove exactly-once under every fault, at full length, 15 min (ARGS="kill --seed 7")
	@$(BIN)/python -m tests.drills $(if $(ARGS),$(ARGS),all --at-once 2)

drill-short: $(INSTALLED)  ## every drill in its short form, and a drill that must fail
	$(BIN)/pytest --numprocesses 2 --dist worksteal tests/drills $(ARGS)

fuzz-decode: $(INSTALLED)  ## decode random bytes below sanitizers, 1 min (ARGS="--seconds 600 --seed 7")
	@$(BIN)/python -m tests.fuzz $(ARGS)

detection-report: $(INSTALLED)  ## measure the detector on simulated scenarios, write docs/detection.md (ARGS="--quick")
	@$(BIN)/python -m tests.report $(ARGS)

unit: $(INSTALLED)  ## only the tests that start no process (COVERAGE=1)
	$(PYTEST) --numprocesses 2 --dist worksteal tests/unit tests/property $(ARGS)
	$(call report,--fail-under=$(COVERED_BY_UNIT))

integration: $(INSTALLED)  ## only the tests on real servers
	$(BIN)/pytest $(PARALLEL) tests/integration $(ARGS)

bench: $(INSTALLED) $(PEERS)/.installed $(if $(WITHOUT_PATHWAY),,$(PEERS)/pathway/.installed)  ## events a second, side by side with others, 8 min (ARGS="--quick")
	@BENCH_PEERS=$(PEERS) $(BIN)/python -m tests.bench.speed --json docs/benchmarks/speed.json $(ARGS)

bench-latency: $(INSTALLED)  ## how soon events are seen and alerts are out, at three rates, 4 min (ARGS="--rate 1000")
	@$(BIN)/python -m tests.bench.latency --json docs/benchmarks/latency.json $(ARGS)

bench-growth: $(INSTALLED)  ## throughput and memory against series, backlog, workers, history, 10 min (ARGS="--only series")
	@$(BIN)/python -m tests.bench.growth --json docs/benchmarks/growth.json $(ARGS)

bench-idle: $(INSTALLED)  ## what a worker costs where no events come, 3 min
	@$(BIN)/python -m tests.bench.idle --json docs/benchmarks/idle.json $(ARGS)

bench-producer: $(INSTALLED)  ## what emitting costs an app, with Kafka there and away, 1 min
	@$(BIN)/python -m tests.bench.producer --json docs/benchmarks/producer.json $(ARGS)

bench-stages: $(INSTALLED)  ## where an event's time goes in a worker, with 100 and 10,000 series, 2 min
	@$(BIN)/python -m tests.bench.stages --json docs/benchmarks/stages.json $(ARGS)
	@$(BIN)/python -m tests.bench.stages --json docs/benchmarks/stages_10000.json $(ARGS) --series 10000

bench-page: $(INSTALLED)  ## write docs/benchmarks.md from what was measured last
	@$(BIN)/python -m tests.bench.page

bench-detector: $(INSTALLED)  ## what evaluating costs: time a window and an estimate, memory (ARGS="100 1000")
	$(BIN)/python -m tests.bench.detector $(ARGS)

bench-detector-start: $(INSTALLED)  ## a detector of 10,000 series with three weeks of history until its first window, 6 min
	@$(BIN)/python -m tests.bench.detector_start --json docs/benchmarks/detector_start.json $(ARGS)

bench-flood: $(INSTALLED)  ## a declared funnel under floods of invented names: delay, memory, series, 6 min (ARGS="--seconds 20")
	@$(BIN)/python -m tests.bench.flood --json docs/benchmarks/flood.json $(ARGS)

bench-queries: $(INSTALLED)  ## what a dashboard asks over 30 days of 10,000 series, 10 min (ARGS="--timescaledb --rows 400000")
	@$(BIN)/python -m tests.bench.dashboard_queries --rows 4000000 --series 10000 --json docs/benchmarks/queries.json $(ARGS)

bench-backtest: $(INSTALLED)  ## what a backtest costs: a year of 24 series in windows of a minute (ARGS="90")
	$(BIN)/python -m tests.bench.backtest $(ARGS)

check: $(INSTALLED)  ## format, lint, types and the direction of imports, as CI does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## bring the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The locks hold hashes for every platform and no address of an index. uv makes them; pip installs them.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(INSTALLED)  ## choose the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet uv
	$(COMPILE) --upgrade --extra all pyproject.toml --output-file requirements.lock
	$(COMPILE) --upgrade --extra all --group test --constraint requirements.lock pyproject.toml --output-file requirements-test.lock
	$(COMPILE) --extra collector --extra worker --extra board --constraint requirements.lock pyproject.toml --output-file deploy/requirements.lock
	$(COMPILE) --group build --no-deps --constraint requirements-test.lock --output-file deploy/build.lock
	$(COMPILE) --group compiler --no-deps --output-file deploy/compiler.lock

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt install python3.11 python3.11-venv, or name another from 3.11 on with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "no virtual environment could be made: apt install python3.11-venv" >&2; rm -rf $(VENV); exit 1; }

# A line for each package, so that it is seen to go on. Python compiles a module when it is first imported: compiling all
# of them takes 52 MB more.
INSTALL = install() { \
	total=$$(grep -c '^[a-z].*==' $$1); echo "installing up to $$total packages of $$1 into $(VENV) …"; \
	{ $(BIN)/pip install --disable-pip-version-check --progress-bar off --no-compile --require-hashes --requirement $$1 || touch $(VENV)/.failed; } 2>&1 \
	| awk -v total=$$total '/^Collecting/ { printf "  %d/%d %s\n", ++n, total, $$2; fflush(); next } \
		/^Installing collected/ { print "  unpacking …"; fflush(); next } /^(ERROR|error|    ERROR)/ { print > "/dev/stderr" }'; \
	if [ -e $(VENV)/.failed ]; then rm -f $(VENV)/.failed; echo "the packages of $$1 could not be installed" >&2; exit 1; fi; }; install

# The hot path is compiled when it is installed: by the machine's compiler, or by one from PyPI.
$(RUNTIME): requirements.lock pyproject.toml $(wildcard stream/native/*.[ch]) | $(BIN)/pip
	@$(INSTALL) requirements.lock
	@$(INSTALL) deploy/build.lock
	@if ! { command -v cc || command -v gcc || command -v clang; } >/dev/null; then $(INSTALL) deploy/compiler.lock; fi
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): requirements-test.lock tests/datasets.lock $(RUNTIME)
	@$(INSTALL) requirements-test.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/datasets.lock
	@# Tests start thousands of processes, also where PYTHONDONTWRITEBYTECODE is set.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	@touch $@

$(PEERS)/.installed: tests/bench/peers.lock
	@test -x $(PEERS)/bin/pip || $(PYTHON) -m venv $(PEERS)
	@echo "installing what tests/bench/peers.lock names …"
	@$(PEERS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Without it the others are measured all the same: not every platform has a wheel.
$(PEERS)/pathway/.installed: tests/bench/pathway.lock
	@test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	@echo "installing what tests/bench/pathway.lock names, 1.6 GB …"
	@if $(@D)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $<; \
	then touch $@; else rm -rf $(@D); echo "Pathway could not be installed: the bench goes on without it" >&2; fi

clean:  ## end the embedded stack and remove what was made here
	@test ! -x $(BIN)/funnelwatch || $(BIN)/funnelwatch down --purge
	@rm -rf $(VENV) $(PEERS) .funnelwatch .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
