# `make demo` and `make test` are all a newcomer needs. One build profile serves both, so that the C++
# of the embedded cluster is compiled once.
SCALE ?= 0.1
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: demo test golden bench bench-fleet build deps fmt lint

deps:
	@scripts/install-deps.sh

build: deps
	$(CARGO) build --release --locked --bins

# Starts the sandbox, generates TPC-H, imports it, checks it with ADMIN CHECK TABLE and a MySQL client.
demo: build
	$(TARGET)/demo --scale $(SCALE)

test: deps
	$(CARGO) build --release --locked --bins
	$(CARGO) test --release --locked --workspace

# TiDB's own key-value pairs; another file of the same format: make golden GOLDEN_KV=FILE
golden: deps
	$(CARGO) test --release --locked -p thunderhead-codec --test golden -- --nocapture

bench: build
	$(TARGET)/bench

# CPU time of fleets of 1, 2 and 4 agents on this machine against one process.
bench-fleet: build
	$(TARGET)/bench_fleet

fmt:
	$(CARGO) fmt --all

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
