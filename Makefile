# roamcast - `make run`: live demo from a fresh Debian or Ubuntu machine; `make test`: all tests. See README.md.
#   make run CONFIG=my.toml    runs the encoder with this config instead of the demo
#   make bench ONLY=1,2 QUICK=1   compares it with others in network namespaces (needs root); both may be left out
#   make fuzz TIME=180        fuzzes each parser for so many seconds
#   make storm SEEDS=10000    plays so many seeded networks against the rules of roaming
#   make run ARGS="--for 30s"  passes more arguments on
#   make test-on RELEASE=trixie   unit, pure and loopback tests in a fresh root of another Debian release (needs root), so
#                             with its GStreamer: trixie has 1.26, testing 1.28
#   make sessions             1000 sessions with each ICE agent, ten minutes: does anything leak?
#   make lint                 form, lints, documentation, licences, the oldest Rust
#   make restarts             500 restarts of a Janus beside one encoder, a quarter of an hour: the same question

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: run test test-on sessions restarts storm check lint fuzz packages-run packages-test peers bench clean help

BIN := target/release/roamcast
CARGO := cargo --locked

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

run: packages-run
	@command -v cargo >/dev/null || { echo "make run: cargo is missing: install Rust 1.92 or newer (https://rustup.rs)"; exit 1; }
	@cargo build --locked --release
	@if [ -n "$(CONFIG)" ]; then exec $(BIN) run -c "$(CONFIG)" $(ARGS); else exec $(BIN) demo $(ARGS); fi

packages-run:
	@./scripts/packages run

packages-test:
	@./scripts/packages run test

lint:
	@./scripts/lint

test: packages-test
	@./scripts/test

test-on:
	@[ -n "$(RELEASE)" ] || { echo "make test-on: say which release: RELEASE=trixie or RELEASE=testing"; exit 1; }
	@./scripts/fresh-root runtime "$(RELEASE)"

sessions: packages-test
	@ROAMCAST_SESSIONS=1000 $(CARGO) test --test loopback many_sessions -- --nocapture

restarts: packages-test
	@ROAMCAST_RESTARTS=500 $(CARGO) test --test loopback janus_restarts -- --nocapture

bench:
	@ONLY="$(ONLY)" QUICK="$(QUICK)" JOBS="$(JOBS)" ./scripts/bench

fuzz:
	@TIME="$(or $(TIME),60)" ./scripts/fuzz

storm:
	ROAMCAST_SEEDS=$(or $(SEEDS),10000) $(CARGO) test --lib the_rules_hold_in_every_storm -- --nocapture

check: lint test
