# One profile (release) and one target directory for everything, and always the whole workspace, so
# that RocksDB and FAISS are compiled once: a single crate (`-p`) may ask for other features of what
# their builds use, which compiles them again.

.DEFAULT_GOAL := help
.PHONY: help setup packages build newer model demo test lint bench jepsen coverage clean

export CARGO_TARGET_DIR ?= $(CURDIR)/target
BIN := $(CARGO_TARGET_DIR)/release

# What to measure: `make bench NAME=latency`, `make bench NAME=quality ARGS="--limit 10"`.
NAME ?=
ARGS ?=

help: ## Lists the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: model ## Installs what is missing: Debian packages (by apt), the programs, the model

packages:
	@scripts/install-packages

build: packages
	@echo "make: building the workspace in $(CARGO_TARGET_DIR) (15 to 30 minutes on two cores, the first time)"
	cargo build --release --workspace

# The server with one format of the log more, for the test of upgrades: the libraries of others are
# those of `build`.
newer: build
	cargo build --release --workspace --features memorygate-node/next-format --bin memorygate-next-format

model: build
	@scripts/fetch-model $(BIN)/memorygate

demo: setup ## Shows the main job: learn, recall, kill, and everything is still there
	scripts/demo.sh

test: setup newer ## Runs every test
	cargo test --release --workspace
	scripts/test-mcp $(BIN)
	scripts/test-ci-examples $(BIN)

lint: packages ## Checks format, lints, documentation and shell scripts
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --release --workspace --no-deps --document-private-items
	@if command -v shellcheck >/dev/null; then \
		echo "shellcheck .ci/run scripts examples"; shellcheck .ci/run scripts/* examples/ci/*/learn examples/ci/*/review; \
	else \
		echo "make: shellcheck is not there, so shell scripts are not checked"; \
	fi

bench: setup ## Measures: `make bench NAME=quality ARGS=...`; without NAME it lists what there is
	@if [ "$(NAME)" = embed ]; then scripts/install-peers; fi
	$(BIN)/memorygate-bench $(or $(NAME),--help) $(ARGS)

jepsen: setup newer ## Breaks clusters for an hour: `make jepsen ARGS="--minutes 30 --workload set"`
	$(BIN)/memorygate-jepsen soak $(ARGS)

coverage: setup newer ## Measures which lines the tests run, by crate; fails below 85 %
	@scripts/install-coverage-tools
	cargo xtask coverage

clean: ## Removes what cargo built; the model and the packages stay
	cargo clean
