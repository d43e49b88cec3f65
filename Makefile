# kafkeep's house: `make demo` and `make test` are all a newcomer needs.

CARGO ?= cargo

.PHONY: demo test bench fuzz lint setup

demo: ## See it work, on a broker inside the process
	$(CARGO) run --release --locked -- demo

test: setup ## Every test; sets up what they need
	$(CARGO) test --locked

bench: setup ## kafkeep beside the limits of what it does, as ratios; BENCH="--size 2048 --runs 5" or "--help"
	$(CARGO) bench --locked --bench ratios -- $(BENCH)

fuzz: ## Throw bytes at everything that reads bytes; FUZZ="600 batches" for ten minutes of one target
	bash fuzz/run.sh $(FUZZ)

lint: ## Formatting, and clippy without a warning
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

setup: ## Installs what the tests need where it may, else says what to install
	bash tests/setup.sh
