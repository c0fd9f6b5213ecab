# The commands of the project. Each first installs what it needs and this machine lacks; see scripts/bootstrap.sh.

# Frame pointers make the stacks of our own programs complete in profiles, those of `galen demo` among them.
release_flags := $(RUSTFLAGS) -C force-frame-pointers=yes
target_dir := $(or $(CARGO_TARGET_DIR),target)
ARGS ?=

# Empty where the pinned toolchain is installed, or can be.
toolchain := $(shell scripts/toolchain.sh)
ifneq ($(toolchain),)
export RUSTUP_TOOLCHAIN := $(toolchain)
endif

.DEFAULT_GOAL := help
.PHONY: help demo demo-full release test test-kernels test-kubernetes check docs bench soak

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: release ## Catch a real CPU burst on this machine and show it; ARGS='--for 60s' ends by itself. Needs root
	@"$(target_dir)/release/galen" demo $(ARGS)

demo-full: release ## The same with two agents, two replicas, Kafka, OpenSearch, Redis and Prometheus; ARGS='--for 120s'. Needs root
	@scripts/bootstrap.sh test
	scripts/services/services.sh fetch kafka opensearch
	RUSTFLAGS="$(release_flags)" cargo build --release --locked -p galen-integration-tests --bins
	@"$(target_dir)/release/galen-full" $(ARGS)

release: ## Build the three programs as they are shipped
	@scripts/bootstrap.sh build
	RUSTFLAGS="$(release_flags)" cargo build --release --locked -p galen-agent -p galen-aggregator -p galen-cli

test: ## Run all tests; those that need root use sudo, or are left out and named. ARGS go to cargo test
	@scripts/bootstrap.sh test
	scripts/test.sh $(ARGS)

test-kernels: ## Run the tests of BPF programs on Debian's stock kernels, emulated; ARGS name suites of Debian
	@scripts/bootstrap.sh kernels
	scripts/kernels.sh $(ARGS)

test-kubernetes: ## Run the tests against a real kubelet, which is built first. Needs root
	@scripts/bootstrap.sh kubernetes
	scripts/kubernetes.sh

check: ## The gate: format, lints, documentation, generated pages, licences
	@scripts/bootstrap.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@# Private items are documented too, so a link to one resolves.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked --document-private-items
	cargo xtask licences
	cargo xtask docs --check

docs: ## Write the generated pages anew
	@scripts/bootstrap.sh build
	cargo xtask docs

bench: ## Measure what docs/benchmarks.md records; takes a while. Needs root. ARGS name single figures
	@scripts/bootstrap.sh build
	RUSTFLAGS="$(release_flags)" cargo build --release --locked --workspace --bins --examples
	scripts/bench.sh $(ARGS)

soak: ## Kill agents, aggregators, Kafka and OpenSearch under load, 100 rounds; takes long. Needs root
	@scripts/bootstrap.sh test
	GALEN_SOAK_ROUNDS=100 scripts/test.sh -p galen-integration-tests --test kill --test kafka $(ARGS)
