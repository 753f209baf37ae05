# Outlast's tasks. `make help` lists them; each installs what it needs when it is missing.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
NODE_MAJOR := 20
DENY_VERSION := 0.20.2
FUZZ_VERSION := 0.13.1
T ?=
S ?= 60
SIM = CARGO_INCREMENTAL=0 $(CARGO) test --config tests/sim/fast.toml --package outlast-tests --test sim --

.PHONY: help demo bless test test-rust test-ui test-sim test-world test-chaos test-asked test-interop sim sim-long sim-results bench bench-long deb lint lint-rust lint-ui fmt fuzz need-node need-clock need-world need-bench

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: need-node ## Three nodes on this machine, a dashboard, and a cut that heals
	$(CARGO) run --release -- demo

test: test-rust test-ui test-sim test-world ## Unit and property tests, the page, simulated meshes, real nodes in namespaces, a real browser

test-rust: need-node need-clock ## Unit, property and layout tests of every crate
	$(CARGO) test --workspace --exclude outlast-tests
	$(CARGO) test --package outlast-tests --lib --test layout

test-sim: need-node ## Twenty-two minutes of a thousand simulated machines, forty small meshes where everything goes wrong
	$(SIM) suite

test-ui: need-node ## The page: formatting, frames, charts
	cd ui && npm ci --ignore-scripts --no-audit --no-fund && npm test

# What is done to nodes runs beside what is asked of them and beside a stock peer: all three wait most of the time.
test-world: need-node need-clock need-world ## Real nodes: loopback, network namespaces, kill -9, Chromium, a stock WireGuard peer
	cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund
	$(CARGO) test --package outlast-tests --test e2e --test chaos --test browser --test interop --no-run
	$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=line test-chaos test-asked test-interop

test-chaos:
	$(CARGO) test --package outlast-tests --test chaos -- --test-threads=1

test-asked:
	$(CARGO) test --package outlast-tests --test browser --test e2e --no-fail-fast -- --test-threads=1

test-interop:
	$(CARGO) test --package outlast-tests --test interop

sim: need-node ## One simulated case: make sim SEED=7 NODES=20 MINUTES=30 (KIND=heavy STORY=file TELL=1)
	$(SIM) run kind="$(KIND)" seed="$(SEED)" nodes="$(NODES)" minutes="$(MINUTES)" story="$(STORY)" tell="$(TELL)"

sim-long: need-node ## An hour of a thousand machines, five hundred cases more, and larger ones; hours
	$(SIM) long

sim-results: need-node ## Bytes a second and time to heal at 10 to 3,000 nodes, or at NODES="10 50": tests/sim/RESULTS.md
	$(SIM) results $(NODES)

bench: need-node need-world need-bench ## Cost, bytes, times to meet and to heal, memory over time; about forty minutes
	$(CARGO) bench --package outlast-tests --bench spine

bench-long: need-node need-world need-bench ## A cut of 10 minutes, then two nodes for an hour; about 75 minutes
	$(CARGO) bench --package outlast-tests --bench spine -- cut-long pair-long

bless: need-node ## Write the snapshots of help and error lines anew; read what changed before it is committed
	UPDATE_EXPECT=1 $(CARGO) test --package outlast --test commands

# The test packages the program under test instead: deploy/deb/build PROGRAM DIR.
deb: need-node ## target/deb/outlast_VERSION_ARCH.deb; BIN=path packages a program that is built already
	@tests/install dpkg-deb:dpkg objdump:binutils
	test -n "$(BIN)" || $(CARGO) build --release
	mkdir -p target/deb
	deploy/deb/build "$(or $(BIN),$${CARGO_TARGET_DIR:-target}/release/outlast)" target/deb

fuzz: need-node ## Fuzz one parser, or all in turn: make fuzz T=row S=60 (KEEP=1 keeps what reaches new code)
	@$(CARGO) fuzz --version 2>/dev/null | grep -qF $(FUZZ_VERSION) || $(CARGO) install cargo-fuzz --version $(FUZZ_VERSION) --locked
	@command -v c++ >/dev/null || tests/install c++:g++
	CARGO="$(CARGO)" tests/fuzz/run "$(T)" "$(S)"

lint: lint-rust lint-ui ## What CI refuses: formatting, clippy, docs, licences, the page's lint and types

lint-rust: need-node
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --version $(DENY_VERSION) --locked
	$(CARGO) deny --log-level error check bans licenses sources

lint-ui: need-node
	cd ui && npm ci --ignore-scripts --no-audit --no-fund && npm run lint && npm run check

fmt: need-node ## Format the Rust and the TypeScript
	$(CARGO) fmt --all
	cd ui && npm ci --ignore-scripts --no-audit --no-fund && npm run format

# Building the page takes Node and npm.
need-node:
	@command -v node >/dev/null && command -v npm >/dev/null || tests/install nodejs npm
	@node -e 'process.exit(+process.versions.node.split(".")[0] >= $(NODE_MAJOR) ? 0 : 1)' \
		|| { echo "Node $$(node --version) is too old to build the page: install Node $(NODE_MAJOR).19 or newer" >&2; exit 1; }

# Tests of hours and of wrong clocks bend the clock of the crates they try; tests of power cuts record what a process writes.
need-clock:
	@tests/install faketime strace

# The world tests take namespaces, a firewall, a browser, a systemd to boot, and node_exporter to be measured against.
need-world:
	@tests/install ip:iproute2 nft:nftables wg:wireguard-tools wireguard-go chromium prometheus-node-exporter \
		systemctl:systemd nsenter:util-linux setpriv:util-linux useradd:passwd dpkg-deb:dpkg objdump:binutils

# What is measured is measured beside stock WireGuard, Prometheus and VictoriaMetrics, and captured to see what it consists of.
need-bench:
	@tests/install tcpdump promtool:prometheus victoria-metrics
