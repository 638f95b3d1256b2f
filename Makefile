# Three commands: `make demo`, `make test` and `make bench`. They install what they need from Debian's packages if it is missing
# (as root; else they print the line to run), and build into one folder outside the checkout, so that RocksDB is compiled once.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/dos-cluster/target
export CARGO_TERM_COLOR ?= auto
SIM_TARGET_DIR = $(CARGO_TARGET_DIR)-sim
IN_SIM = cd cluster-tests/sim && CARGO_TARGET_DIR=$(SIM_TARGET_DIR)
FUZZ_TARGET_DIR = $(CARGO_TARGET_DIR)-fuzz
IN_FUZZ = cd cluster-tests/fuzz && CARGO_TARGET_DIR=$(FUZZ_TARGET_DIR)
FUZZ_TARGETS = legacy ops event_log scan
FUZZ_SECONDS ?= 60
TOOLS = $(HOME)/.cache/dos-cluster/tools
CARGO_FUZZ = $(TOOLS)/cargo-fuzz-0.13.1
BENCH = $(CARGO_TARGET_DIR)/release/dos-cluster bench
# On the disk of the checkout: a temporary directory may be in memory, where nothing is synced.
BENCH_DIR = target/bench
DOS_SIM = $(SIM_TARGET_DIR)/debug/dos-sim

.PHONY: demo demo-legacy bench test build fix fmt clippy client doc unit cluster sim fuzz deny packages

demo: build
	$(CARGO_TARGET_DIR)/debug/dos-cluster demo
	@echo 'The other story, with workers that speak the old protocol: make demo-legacy' >&2

demo-legacy: build
	$(CARGO_TARGET_DIR)/debug/dos-cluster demo legacy

# About five minutes, on a machine that does nothing else: what the machine can do, then what the cluster does on it.
bench: packages
	cargo build --locked --release
	mkdir -p $(BENCH_DIR)
	$(BENCH) --probe W1 W2 W3 W4 W5 W6 C1 R1 F1 --start-nodes 3 --dir $(BENCH_DIR)/servers > $(BENCH_DIR)/results.jsonl
	$(BENCH) --report $(BENCH_DIR)/results.jsonl > $(BENCH_DIR)/report.html
	@echo 'The lines are in $(BENCH_DIR)/results.jsonl, the charts in $(BENCH_DIR)/report.html' >&2

build: packages
	cargo build --locked

test: packages fmt clippy client doc unit cluster sim fuzz

fmt:
	cargo fmt --all --check
	cd cluster-tests/sim && cargo fmt --check
	cd cluster-tests/fuzz && cargo fmt --check

clippy: packages
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(IN_SIM) cargo clippy --locked --all-targets -- -D warnings
	$(IN_FUZZ) cargo clippy --locked --lib -- -D warnings

# What a worker links: without the server, and without RocksDB.
client: packages
	cargo check --locked --lib --no-default-features

doc: packages
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --workspace

unit: packages
	cargo test --locked --lib --bins -p dos-cluster -p dos-jepsen

cluster: build
	cargo test --locked -p dos-cluster-tests

sim: packages
	$(IN_SIM) cargo test --locked
	$(IN_SIM) cargo build --locked
	$(DOS_SIM) --seeds 0..100 --seconds 20
	$(DOS_SIM) --seeds 0..5 --seconds 20 --check-determinism
	$(DOS_SIM) --seeds 0..20 --seconds 20 --mutation ack_before_sync --expect-violation

# Coverage counters without a sanitizer, which stable Rust has not. What is found goes to a corpus outside the checkout.
fuzz: packages $(CARGO_FUZZ)
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p $(FUZZ_TARGET_DIR)/corpus/$$target; \
		CARGO_TARGET_DIR=$(FUZZ_TARGET_DIR) $(CARGO_FUZZ)/bin/cargo-fuzz fuzz run -s none --fuzz-dir cluster-tests/fuzz $$target \
			$(FUZZ_TARGET_DIR)/corpus/$$target cluster-tests/fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
			-max_len=4096 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 -artifact_prefix=$(FUZZ_TARGET_DIR)/$$target-; \
	done

$(CARGO_FUZZ):
	cargo install --locked cargo-fuzz --version 0.13.1 --root $@

fix:
	cargo fmt --all
	cd cluster-tests/sim && cargo fmt
	cd cluster-tests/fuzz && cargo fmt
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

deny:
	cargo deny --config .deny.toml check bans licenses sources

packages:
	@.ci/packages
