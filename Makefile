# parm: coded inference. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PREFIX  ?= /usr/local
DESTDIR ?=
PYTHON  ?= python3
DATA    ?= testdata/digits
CARGO   ?= cargo

# What --version of installed programs says; empty outside a checkout of git.
COMMIT = $(shell test -e .git && git describe --always --dirty --abbrev=7 --exclude='*' 2>/dev/null)

TOOLS := encode infer decode train serve score data compare plot report load sim
BIN   := target/release

# The libtorch that tch 0.24 binds. The wheel's CPU library needs two small CUDA libraries to load;
# with CUDA=1 all of them come along.
TORCH_WHEEL := torch==2.11.0
TORCH_WHEEL_NEEDS := nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85

OWN_LIBTORCH := $(CURDIR)/.libtorch/torch
ifeq ($(origin LIBTORCH),undefined)
LIBTORCH := $(OWN_LIBTORCH)
endif
export LIBTORCH

.PHONY: all
all: libtorch ## Build all tools (installs libtorch under .libtorch/ unless LIBTORCH is set)
	$(CARGO) build --release --workspace --locked

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: libtorch
libtorch: ## Install libtorch under .libtorch/; with CUDA=1 also its CUDA libraries
ifeq ($(LIBTORCH),$(OWN_LIBTORCH))
libtorch: .libtorch/installed$(if $(CUDA),-cuda)
else
	@test -e "$(LIBTORCH)/lib/libtorch_cpu.so" || \
	  { echo "make: LIBTORCH=$(LIBTORCH): found no lib/libtorch_cpu.so there, expected libtorch 2.11" >&2; exit 1; }
endif

.libtorch/installed:
	rm -rf .libtorch
	$(PYTHON) -m pip install --quiet --no-deps --target .libtorch $(TORCH_WHEEL) $(TORCH_WHEEL_NEEDS)
	touch $@

.libtorch/installed-cuda:
	rm -rf .libtorch
	$(PYTHON) -m pip install --quiet --target .libtorch $(TORCH_WHEEL)
	touch .libtorch/installed $@

.PHONY: demo
demo: all ## Train, encode, infer, lose, decode and score on handwritten digits; then serve them
	PATH="$(CURDIR)/$(BIN):$$PATH" testdata/digits/demo.sh target/demo
	PATH="$(CURDIR)/$(BIN):$$PATH" testdata/digits/serve.sh target/demo

.PHONY: test
test: all ## Run all tests
	$(CARGO) test --release --workspace --locked --doc --quiet
	$(CARGO) test --release --workspace --locked --lib --bins --tests

.PHONY: soak
soak: all ## Read 10 million mutated streams and as many bodies; give the serving core 1000 million events
	PARM_SOAK=10000000 $(CARGO) test --release --locked -p parm --test hostile -- --nocapture
	PARM_SOAK=10000000 $(CARGO) test --release --locked -p parm-serving --test hostile -- --nocapture
	$(CARGO) test --release --locked -p parm-engine --test random -- --ignored --nocapture

.PHONY: test-chaos
test-chaos: all ## Kill, stop and deceive model servers for five minutes under load: no query may fail
	PARM_CHAOS=300 $(CARGO) test --release --locked -p parm-serve --test chaos -- --nocapture

.PHONY: test-page
test-page: all ## The status page of parm-serve, and a report, in Chromium (or another name in CHROMIUM), with pictures in target/tmp
	$(CARGO) test --release --locked --workspace --test page -- --ignored --nocapture

.PHONY: test-namespaces
test-namespaces: all ## Three parm-serve before shared servers, in network namespaces; one is killed (needs nginx, and root)
	testdata/serving/namespaces "$(CURDIR)/$(BIN)"

.PHONY: test-kubernetes
test-kubernetes: demo ## Whether the manifests are valid for Kubernetes, fit each other, and parm-serve takes its configuration
	testdata/serving/kubernetes/check "$(CURDIR)/$(BIN)" target/demo/code-k2

.PHONY: test-slurm
test-slurm: demo ## A data set in parts over a Slurm of one node, a task of it killed (needs Debian's slurm-wlm, and root)
	testdata/experiments/slurm/test "$(CURDIR)/$(BIN)" target/demo

.PHONY: test-memory
test-memory: all ## Whether parm-serve's memory stays flat over ten million queries (five minutes; needs wrk)
	testdata/serving/memory "$(CURDIR)/$(BIN)"

.PHONY: test-integration
test-integration: all ## Real Triton, MLServer, KServe, tritonclient and perf_analyzer around parm-serve (installs 1 GB)
	testdata/serving/integration/run "$(CURDIR)/$(BIN)"

.PHONY: test-gpu
test-gpu: all ## The whole pipeline on a GPU beside PyTorch, in 8 minutes: OUT gets the report (DATA=FOLDER of MNIST's files)
	$(PYTHON) testdata/gpu/check "$(CURDIR)/$(BIN)" "$(DATA)" "$(or $(OUT),target/gpu)"

.PHONY: gpu-kit
gpu-kit: all ## Programs and data for test-gpu on another machine, in gpu-kit/ (DATA=FOLDER of MNIST's files)
	rm -rf gpu-kit target/gpu-kit
	mkdir -p gpu-kit/data target/gpu-kit
	for tool in $(TOOLS) libtorch; do strip -o "target/gpu-kit/parm-$$tool" "$(BIN)/parm-$$tool"; done
	tar -C target/gpu-kit -cf - . | xz -T2 > gpu-kit/programs.tar.xz
	cp testdata/gpu/check testdata/gpu/run testdata/gpu/*.py gpu-kit/
	cp "$(DATA)"/* gpu-kit/data/
	@du -sh gpu-kit

.PHONY: lint
lint: libtorch ## Check format, lints, documentation and man pages
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps --locked --quiet
	rm -rf target/pages
	$(CARGO) run --release --locked --quiet -p parm-cli --example pages -- target/pages
	diff -r -x '*.inc' -x completions -x '*.md' -x '*.7' -x '*.5' man target/pages/man
	mandoc -T lint -W warning man/*.[157]

.PHONY: man
man: ## Make the man pages of the tools anew
	rm -rf target/pages
	$(CARGO) run --release --locked --quiet -p parm-cli --example pages -- target/pages
	cp target/pages/man/*.1 man/

.PHONY: install
install: all install-files ## Install under $(DESTDIR)$(PREFIX); LINK_LIBTORCH=1 links libtorch in place of copying it

# Without building first: what the test of the installation calls.
.PHONY: install-files
install-files: install-programs
	lib/torch/libtorch-files "$(LIBTORCH)" $(BIN)/parm-libtorch | while read -r file; do \
	  $(if $(LINK_LIBTORCH),ln -sf,cp -L) "$$file" "$(DESTDIR)$(PREFIX)/lib/parm/"; done

# All but libtorch.
.PHONY: install-programs
install-programs:
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/parm" "$(DESTDIR)$(PREFIX)/share/parm/digits"
	install -m 755 $(TOOLS:%=$(BIN)/parm-%) lib/python/parm-demo "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(BIN)/parm-libtorch "$(DESTDIR)$(PREFIX)/lib/parm"
	lib/torch/forget-build "$(DESTDIR)$(PREFIX)/lib/parm/parm-libtorch"
	echo "$(COMMIT)" > "$(DESTDIR)$(PREFIX)/share/parm/commit"
	install -m 755 testdata/digits/*.sh "$(DESTDIR)$(PREFIX)/share/parm/digits"
	install -m 644 testdata/digits/*.npy testdata/digits/README.md "$(DESTDIR)$(PREFIX)/share/parm/digits"
	rm -rf target/pages
	$(CARGO) run --release --locked --quiet -p parm-cli --example pages -- target/pages
	for section in 1 5 7; do \
	  install -d "$(DESTDIR)$(PREFIX)/share/man/man$$section"; \
	  install -m 644 man/*.$$section "$(DESTDIR)$(PREFIX)/share/man/man$$section"; done
	install -d "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" \
	  "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	for tool in $(TOOLS); do \
	  install -m 644 target/pages/completions/parm-$$tool.bash \
	    "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/parm-$$tool"; done
	install -m 644 target/pages/completions/_parm-* "$(DESTDIR)$(PREFIX)/share/zsh/site-functions"
	install -m 644 target/pages/completions/*.fish "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"

# What wheels and archives have: the installation without libtorch.
.PHONY: stage
stage: all
	rm -rf target/stage
	$(MAKE) install-programs DESTDIR="$(CURDIR)/target/stage" PREFIX=
	strip $(TOOLS:%=target/stage/bin/parm-%) target/stage/lib/parm/parm-libtorch

.PHONY: wheel
wheel: stage ## Pack programs, man pages and the Python module as a wheel, in target/wheels
	rm -rf target/wheels
	lib/python/wheel target/stage target/wheels

.PHONY: test-wheel
test-wheel: wheel ## Install the wheel into a clean virtual environment, hide the source tree, run the demo from it
	$(PYTHON) lib/python/test-wheel target/wheels/*.whl "$(LIBTORCH)"

IMAGE := target/images/parm-serve$(if $(TORCH),-torch).tar

.PHONY: image
image: stage ## Pack parm-serve as an OCI image, in target/images; with TORCH=1 also libtorch, for embedded models
	lib/serve/image target/stage $(IMAGE) $(if $(TORCH),"$(LIBTORCH)")

.PHONY: test-image
test-image: image ## Unpack the image and run it in front of a server, with TLS (needs root)
	lib/serve/test-image $(IMAGE) target/stage/bin

.PHONY: dist
dist: stage ## Pack programs, man pages and completions with a script that installs them, in target/dist
	rm -rf target/dist
	install -d target/dist
	install -m 755 lib/cli/install target/stage
	tar -C target/stage --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --transform 's,^\.,parm,' -cf - . | \
	  xz -T1 > "target/dist/parm-$$($(BIN)/parm-encode --version | cut -d' ' -f2)-linux-$$(uname -m).tar.xz"
	rm target/stage/install

.PHONY: bench
bench: all ## Measure kernels and tools against their peers, as ratios within one run
	$(CARGO) bench --locked -p parm --bench kernels --bench codes
	$(CARGO) bench --locked -p parm-engine --bench events
	$(CARGO) bench --locked -p parm-serving --bench coder --bench wire --bench calls --bench load
	$(CARGO) bench --locked -p parm-simulation --bench queries
	testdata/bench/run "$(CURDIR)/$(BIN)"
	testdata/bench/serve.sh "$(CURDIR)/$(BIN)"
	testdata/bench/load.sh "$(CURDIR)/$(BIN)"
	testdata/bench/embedded.sh "$(CURDIR)/$(BIN)" target/bench/resnet18.pt .venv/bin/python
	testdata/bench/sim.sh "$(CURDIR)/$(BIN)"

.PHONY: clean
clean: ## Remove what was built (libtorch stays; remove .libtorch by hand)
	$(CARGO) clean
