# Everything a developer does here, by name. `make help` lists it.
TRIPLE   := $(shell rustc -vV | sed -n 's/^host: //p')
PREFIX   ?= /usr/local
DESTDIR  ?=
FIXTURES := target/fixtures
export MINIRUN_FIXTURES := $(CURDIR)/$(FIXTURES)

# Debian packages that the fixtures and tests are made with.
PACKAGES := zstd bzip2 xz-utils busybox-static debootstrap qemu-system-x86 kmod cpio e2fsprogs docker-registry openssl \
	iproute2 iptables git tzdata uidmap

# Those whose engines run on minirun in tests.
ENGINES := catatonit docker-registry docker.io podman containerd runc tini skopeo umoci python3 python3-grpcio uidmap

.DEFAULT_GOAL := help
.PHONY: help build static install deps fixtures demo test test-root test-engines test-vm conformance conformance-vm lint bench order clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the debug binary
	cargo build

static: ## the release binary, static and stripped: target/minirun
	cargo build --release
	install -m 755 target/$(TRIPLE)/release/minirun target/minirun
	@ls -l target/minirun

install: static ## minirun below PREFIX (/usr/local), with completions for shells and man pages
	install -D -m 755 target/minirun $(DESTDIR)$(PREFIX)/bin/minirun
	ln -sf minirun $(DESTDIR)$(PREFIX)/bin/minirun-oci
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions \
		fish/vendor_completions.d man/man1)
	target/minirun completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/minirun
	target/minirun completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_minirun
	target/minirun completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/minirun.fish
	target/minirun man $(DESTDIR)$(PREFIX)/share/man/man1

deps: ## the Debian packages the tests need, if some are missing
	@rootfs-fixtures/deps.sh $(PACKAGES)

fixtures: ## the root file systems of the tests: target/fixtures
	@rootfs-fixtures/build.sh $(FIXTURES)

demo: static ## a container's life with an image of real Debian, step by step
	@rootfs-fixtures/demo.sh target/minirun target/demo

test: deps fixtures ## all tests: unit, integration, under other engines, in the emulated machine (as root)
	cargo test --no-fail-fast </dev/null
	@rootfs-fixtures/deps.sh $(ENGINES)
	tests/engines/run.sh
	tests/vm/run.sh

test-root: fixtures ## the integration tests alone (as root)
	cargo test --test integration </dev/null

test-engines: fixtures ## Docker, Podman and containerd on top of minirun (as root)
	@rootfs-fixtures/deps.sh $(ENGINES)
	tests/engines/run.sh

test-vm: deps fixtures ## selected integration tests on kernel 6.1 with cgroup v2
	cargo build
	tests/vm/run.sh

conformance: deps fixtures ## runc's own tests, against minirun and runc: RUNTIMES="runc minirun" FILES="start.bats"
	cargo build --release
	@RUNTIMES="$(RUNTIMES)" FILES="$(FILES)" tests/conformance/run.sh

conformance-vm: deps fixtures ## the same on kernel 6.1 with cgroup v2, for about 15 minutes
	cargo build --release
	@RUNTIMES="$(RUNTIMES)" FILES="$(FILES)" tests/conformance/vm.sh

lint: ## formatting and clippy; warnings are errors
	cargo fmt --check
	rustfmt --edition 2024 --check rootfs-fixtures/probe.rs
	cargo clippy --all-targets --test engines -- -D warnings

bench: ## minirun beside docker, podman, runc, crun and the bare system calls
	cargo build --release
	benches/run.sh

order: fixtures ## link/order.ld anew: which functions frequent commands execute (as root, x86_64)
	benches/order.sh

clean: ## remove what was built
	cargo clean
