# Two commands: `make demo` and `make test`. Both install what they need from Debian's packages if it is missing (as root; else
# they print the line to run), and build into one folder outside the checkout, so that RocksDB is compiled once.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/dos-cluster/target
export CARGO_TERM_COLOR ?= auto
SIM_TARGET_DIR = $(CARGO_TARGET_DIR)-sim
IN_SIM = cd cluster-tests/sim && CARGO_TARGET_DIR=$(SIM_TARGET_DIR)
DOS_SIM = $(SIM_TARGET_DIR)/debug/dos-sim

.PHONY: demo demo-legacy test build fix fmt clippy client doc unit cluster sim deny packages

demo: build
	$(CARGO_TARGET_DIR)/debug/dos-cluster demo
	@echo 'The other story, with workers that speak the old protocol: make demo-legacy' >&2

demo-legacy: build
	$(CARGO_TARGET_DIR)/debug/dos-cluster demo legacy

build: packages
	cargo build --locked

test: packages fmt clippy client doc unit cluster sim

fmt:
	cargo fmt --all --check
	cd cluster-tests/sim && cargo fmt --check

clippy: packages
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(IN_SIM) cargo clippy --locked --all-targets -- -D warnings

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

fix:
	cargo fmt --all
	cd cluster-tests/sim && cargo fmt
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

deny:
	cargo deny --config .deny.toml check bans licenses sources

packages:
	@.ci/packages
