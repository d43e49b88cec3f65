# kafkeep's house: `make demo` and `make test` are all a newcomer needs.

CARGO ?= cargo

.PHONY: demo test test-system bench bench-peers fuzz lint setup package deb rpm

# Tools that are built once, of these versions.
TOOLS ?= $(or $(KAFKEEP_TEST_CACHE),$(HOME)/.cache/kafkeep-tests)/tools
CARGO_DEB := $(TOOLS)/bin/cargo-deb
CARGO_RPM := $(TOOLS)/bin/cargo-generate-rpm

demo: ## See it work, on a broker inside the process
	$(CARGO) run --release --locked -- demo

test: setup ## Every test; sets up what they need
	$(CARGO) test --locked

test-system: ## The package in a booted Debian: install, reload, stop, kill, upgrade, purge; needs root and systemd-nspawn
	bash tests/system/run.sh

bench: setup ## kafkeep beside the limits of what it does, as ratios; BENCH="--size 2048 --runs 5" or "--help"
	$(CARGO) bench --locked --bench ratios -- $(BENCH)

bench-peers: ## MirrorMaker 2 beside kafkeep mirror, in one run; BENCH="--size 2048"
	bash tests/setup.sh peers
	$(CARGO) bench --locked --bench ratios -- --only peers $(BENCH)

fuzz: ## Throw bytes at everything that reads bytes; FUZZ="600 batches" for ten minutes of one target
	bash fuzz/run.sh $(FUZZ)

package: ## What the packages hold: the release build, man pages, completions
	$(CARGO) build --release --locked
	$(CARGO) run --quiet --locked --example generate -- target/package
	strip --strip-debug -o target/package/kafkeep target/release/kafkeep

deb: package $(CARGO_DEB) ## target/package/kafkeep_*.deb; DEB="--deb-version 1.2.3-1" for another version
	$(CARGO_DEB) --no-build --no-strip --output target/package/ $(DEB)

rpm: package $(CARGO_RPM) ## target/package/kafkeep-*.rpm; RPM="--set-metadata 'release = \"2\"'" for another release
	$(CARGO_RPM) --output target/package/ $(RPM)

$(CARGO_DEB):
	$(CARGO) install --locked --root $(TOOLS) cargo-deb --version 3.8.0

$(CARGO_RPM):
	$(CARGO) install --locked --root $(TOOLS) cargo-generate-rpm --version 0.21.0

lint: ## Formatting, and clippy without a warning
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

setup: ## Installs what the tests need where it may, else says what to install
	bash tests/setup.sh
