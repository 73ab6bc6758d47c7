# `make demo` and `make test` are all a newcomer needs. One build profile serves both, so that the C++
# of the embedded cluster is compiled once.
SCALE ?= 0.1
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: demo test test-sim test-kill golden fuzz bench bench-fleet bench-large bench-sources build deps test-deps fmt lint

deps:
	@scripts/install-deps.sh

test-deps:
	@scripts/install-deps.sh tests

build: deps
	$(CARGO) build --release --locked --bins

# Starts the sandbox, generates TPC-H, imports it, checks it with ADMIN CHECK TABLE and a MySQL client.
demo: build
	$(TARGET)/demo --scale $(SCALE)

test: test-deps
	$(CARGO) build --release --locked --bins
	$(CARGO) test --release --locked --workspace

# The leader with 100 simulated agents and 100,000 chunks on a virtual clock; the seed is printed. A smaller one:
# make test-sim SIM=20x2000. The same one again: THUNDERHEAD_SIM_SEED=N make test-sim
SIM ?= 100x100000
test-sim:
	THUNDERHEAD_SIM=$(SIM) $(CARGO) test --release --locked --workspace --test simulation --test many_tables -- --nocapture

# kill -9 of every role at every stage of a job; prints how many.
test-kill: test-deps
	$(CARGO) build --release --locked --bins
	THUNDERHEAD_KILLS=all $(CARGO) test --release --locked -p thunderhead-tests --test fleet_kill --test upload_kill --test conflicts_kill -- --nocapture

# Every fuzz target of shared/*/fuzz in turn; installs cargo-fuzz where it is missing. What is found lies below
# shared/*/fuzz/artifacts.
SECONDS_PER_TARGET ?= 60
fuzz:
	@scripts/fuzz.sh $(SECONDS_PER_TARGET)

# TiDB's own key-value pairs; another file of the same format: make golden GOLDEN_KV=FILE
golden: deps
	$(CARGO) test --release --locked -p thunderhead-codec --test golden -- --nocapture

bench: build
	$(TARGET)/bench
	$(TARGET)/bench_csv

# CPU time of fleets of 1, 2 and 4 agents on this machine against one process.
bench-fleet: build test-deps
	$(TARGET)/bench_fleet

# Memory of whole imports of 10 GB files of one line, rows of 4 MiB and a Parquet row group of 1 GB; takes that much room
# on the disk.
bench-large: build
	$(TARGET)/bench_large

# Parquet and gzip against other crates, which nothing else needs: a workspace of its own.
bench-sources:
	$(CARGO) run --release --manifest-path shared/source/bench/Cargo.toml

fmt:
	$(CARGO) fmt --all

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
