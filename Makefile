# Every task a person runs, a line or two each. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help demo run test unit fuzz lint hooks chaos bench micro matrix book proto install uninstall dist dev-up dev-down up down docker clean

STACK := python3 dev/stack/stack.py
BINARIES := -p logistic-package-api -p walpost -p package-bot -p package-facade -p demo
# Tests wait for servers most of the time. Many of them have servers of their own, of some hundred MB each.
export RUST_TEST_THREADS ?= $(shell python3 -c 'import os; n = os.cpu_count(); print(max(n, min(3 * n, 12)))')
BUF := npx --yes @bufbuild/buf@1.75.0

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Without TLS for Kafka, which the demo's broker has not: OpenSSL alone takes two fifths of a first build.
demo: ## the whole system at work, and a relay that is killed under load: from nothing, on this machine
	@$(STACK) fetch & fetching=$$!; \
		cargo build --no-default-features $(BINARIES) || { kill $$fetching; exit 1; }; \
		wait $$fetching && exec target/debug/demo

run: ## the same system, up until Ctrl-C, with commands to paste
	@$(STACK) up
	@cargo build --no-default-features $(BINARIES)
	@target/debug/demo run

test: ## unit, property and integration tests, against real servers; PG=14 KAFKA=3.9 for others than the newest
	@$(STACK) up
	cargo test --workspace --no-fail-fast

unit: ## what needs no servers: seconds, once it is built
	cargo test -p walpost-core -p settings
	cargo test -p walpost --lib

hooks: ## check the format at each commit and clippy at each push of this clone; undo: git config --unset core.hooksPath
	git config core.hooksPath dev/hooks

matrix: ## tests of promises over the oldest and the newest PostgreSQL and Kafka, ALL=1: each with each; PG, KAFKA, ONLY
	@python3 dev/stack/matrix.py $(if $(ALL),--all) $(ONLY)

# Counters and comparisons are reported to libFuzzer; no sanitizer, since there is no unsafe code, so stable Rust serves.
FUZZ_SECONDS ?= 60
FUZZ_HOST = $(shell rustc --print host-tuple)
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions

fuzz: ## hostile bytes from Postgres, FUZZ_SECONDS=60 for each of three targets; docs/fuzzing.md
	@RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked --manifest-path dev/fuzz/Cargo.toml \
		--target $(FUZZ_HOST) --target-dir target/fuzz
	@for target in messages rows templates; do \
		mkdir -p target/fuzz/corpus/$$target; \
		target/fuzz/$(FUZZ_HOST)/release/$$target target/fuzz/corpus/$$target dev/fuzz/corpus/$$target \
			-max_total_time=$(FUZZ_SECONDS) -max_len=16384 -timeout=10 -print_final_stats=1 \
			-artifact_prefix=target/fuzz/ || exit 1; \
	done

lint: ## formatting, clippy and docs, warnings denied; licences, alerts, charts and compose where their tools are installed
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; \
	else echo "licences and bans not checked: cargo install cargo-deny --locked"; fi
	@if promtool --version >/dev/null 2>&1; then deploy/prometheus/check.sh; \
	else echo "alerts not checked: install prometheus, with promtool"; fi
	@if go version >/dev/null 2>&1; then deploy/helm/check.sh; \
	else echo "charts not checked: install go"; fi
	@if docker compose version >/dev/null 2>&1; then dev/compose/check.sh; \
	else echo "docker-compose.yml not checked: install docker's compose plugin (no engine is needed)"; fi

chaos: ## random faults for CHAOS_MINUTES (5), and a count of what was lost; CHAOS_SEED replays
	@$(STACK) fetch
	@cargo build -p walpost -p chaos
	@target/debug/chaos

ONLY ?=
bench: ## measure everything, write BENCHMARKS.md (an hour); ONLY="rows" for some; ONLY=beside BENCH_BESIDE=PATH
	@$(STACK) up
	@cargo build --release -p walpost -p logistic-package-api -p package-bot -p bench
	@target/release/bench $(ONLY)

micro: ## what each step of an event's path costs, and its instructions where valgrind is installed
	@cargo bench -p walpost --bench path
	@cargo build --release -p walpost --example path
	@dev/bench/instructions.sh target/release/examples/path

MDBOOK := PATH="$(CURDIR)/.dev/tools/bin:$$PATH" mdbook
book: ## the pages of docs/ as a book with a search, in target/book
	@$(MDBOOK) --version >/dev/null 2>&1 || cargo install mdbook --version 0.5.4 --locked --no-default-features \
		--features search --root .dev/tools
	@$(MDBOOK) build
	@dev/book.py check target/book

install: ## walpost and the package API with man pages and completions, into PREFIX (/usr/local); DESTDIR
	@packaging/install.sh

uninstall: ## remove what `make install` installed
	@packaging/install.sh --remove

dist: ## tarballs, Debian packages, bills of materials and checksums, in target/dist; packaging/check.sh tries them
	@packaging/dist.sh

proto: ## lint, format and compatibility of the .proto files
	cd proto && $(BUF) lint
	cd proto && $(BUF) format --diff --exit-code
	cd proto && $(BUF) breaking --against '../.git#branch=main,subdir=proto'

dev-up: ## PostgreSQL and Kafka on loopback, without containers; prints where they are
	@$(STACK) up

dev-down: ## stop them
	@$(STACK) down

up: ## the whole system in containers
	COMMIT_HASH="$$(git rev-parse HEAD)" docker compose up --build --detach --wait

down: ## stop the containers; volumes stay
	docker compose --profile bot down

docker: ## the images
	@for name in walpost logistic-package-api package-bot package-facade; do \
		docker build --file deploy/docker/Dockerfile --target $$name --tag $$name \
			--build-arg COMMIT_HASH="$$(git rev-parse HEAD)" . || exit 1; \
	done

clean: ## everything that was built or fetched here
	$(STACK) clean
	cargo clean
