# quorate. `make help` lists what there is.
#
# Nothing but git and make has to be there: a missing or old Go is fetched (see
# tools/bootstrap/go.sh) and packages that a goal needs are named before they
# are installed. GO=/path/to/go uses that one.

SHELL := /bin/sh
.DEFAULT_GOAL := help

ifndef GO
GO = $(eval GO := $$(shell tools/bootstrap/go.sh))$(or $(GO),$(error no usable Go: see above))
endif
# One toolchain for everything, tools that call go among them.
IN = PATH="$(dir $(GO)):$$PATH" GOTOOLCHAIN=auto

VERSION ?= $(or $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null),unknown)
LDFLAGS = -s -w -X main.version=$(VERSION) -X github.com/quorate/quorate/cmd/quorated/daemon.Version=$(VERSION) -X github.com/quorate/quorate/cmd/quorated/config.DocDir=$(DOC)
BUILD   = $(IN) CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
VERIFY  = $(BUILD) -o bin/ ./tools/bootstrap/verify && $(IN) bin/verify

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc

# What `make demo` may be told; KERNEL= also names the kernels of demo-matrix.
NODES   ?= 3
VICTIM  ?= follower
AGENT   ?= lab
PROFILE ?= lan
KERNEL  ?=
KEEP    ?=
export NODES VICTIM AGENT PROFILE KERNEL KEEP

SEEDS ?= 2000
SEED  ?=
BUG   ?=

# What `make chaos` may be told besides NODES, SEED and BUG.
MINUTES ?= 3
ROUND   ?=
export SEED BUG MINUTES ROUND

.PHONY: help build demo demo-matrix chaos test test-full accept sim bench-view bench-recovery bench-liveness bench-soak generate verify-generate evidence lint fuzz man install clean race

help: ## this list
	@echo 'make <goal>:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 17

build: ## bin/quorated, quorate, lab, sim, demo, chaos: static programs
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/quorated ./cmd/quorate ./tools/lab/cmd/lab ./tools/sim/cmd/sim ./tools/demo ./tools/chaos/cmd/chaos

demo: ## three real kernels, one dies; NODES=3..16 VICTIM=leader|follower AGENT=lab|redfish PROFILE= KERNEL=uml-6.12|qemu-7.3|... KEEP=1
	@mkdir -p bin
	@$(BUILD) -o bin/ ./tools/demo $(if $(KEEP),./tools/lab/cmd/lab)
	@$(IN) bin/demo

demo-matrix: ## the demo on UML 6.1, 6.12, 7.2 and QEMU 6.1, 6.12, 7.3, and a table (6 min); KERNEL=uml-7.2,... for some
	@mkdir -p bin
	@$(BUILD) -o bin/ ./tools/demo
	@$(IN) bin/demo matrix

chaos: ## real kernels, and everything goes wrong at random; MINUTES= SEED= NODES=3|5 ROUND= BUG=skip-fence|skip-stop|skip-quorum
	@mkdir -p bin
	@$(BUILD) -o bin/ ./tools/chaos/cmd/chaos
	@$(IN) bin/chaos

test: race ## everything: lint, tests, 2,000 simulated clusters, fuzz, real kernels (up to 40 min)
	@$(VERIFY)

test-full: race ## the same at length: more seeds, longer fuzz, the demo in a clean root, other kernels, demo-matrix (up to 85 min)
	@$(VERIFY) -full

accept: ## the acceptance stories on real kernels
	@$(VERIFY) kernel

sim: ## simulated clusters; SEEDS= SEED= BUG=skip-fence|skip-stop|skip-quorum|skip-hold|skip-lie|skip-generation|early-proof|double-actor
	@mkdir -p bin
	@$(BUILD) -o bin/ ./tools/sim/cmd/sim
	@bin/sim --seeds=$(SEEDS) $(if $(SEED),--seed=$(SEED)) $(if $(BUG),--bug=$(BUG)) --workers=$$(nproc)

bench-view: ## from a silent death to the agreed view, idle cost, fsyncs; SIZES=3,5,8 PROFILE= KILLS=10
	@mkdir -p bin
	@command -v strace >/dev/null || sh tools/bootstrap/install.sh 'to count fsyncs' strace
	@$(BUILD) -o bin/ ./cmd/quorated ./tools/bench
	@bin/bench -profile=$(PROFILE) $(if $(SIZES),-nodes=$(SIZES)) $(if $(KILLS),-kills=$(KILLS))

bench-recovery: ## death, leave and mount beside corosync + dlm_controld on real kernels; ROUNDS= PROFILES=lan,safe SETTINGS=default,safe,extreme KERNEL= NODES=
	@mkdir -p bin
	@$(BUILD) -o bin/ ./tools/bench
	@$(IN) bin/bench recovery -nodes=$(NODES) $(if $(KERNEL),-kernel=$(KERNEL)) $(if $(ROUNDS),-rounds=$(ROUNDS)) $(if $(PROFILES),-profiles=$(PROFILES)) $(if $(SETTINGS),-settings=$(SETTINGS))

# What was not said is left to the command; NODES and MINUTES have values for other goals.
SAID = $(if $(filter file,$(origin $(1))),,$(2)$($(1)))
COROSYNC = command -v corosync >/dev/null || { sh tools/bootstrap/install.sh 'to compare with' corosync && { test ! -d /run/systemd/system || systemctl disable --now corosync; }; }

bench-liveness: ## from a silent death to the agreed view, beside corosync, in 20 min; NODES=3,8,16 KILLS=30 SYSTEMS=quorate/lan,corosync
	@mkdir -p bin
	@$(if $(findstring corosync,$(or $(SYSTEMS),corosync)),$(COROSYNC))
	@$(BUILD) -o bin/ ./cmd/quorated ./tools/bench
	@bin/bench liveness $(call SAID,NODES,-nodes=) $(if $(KILLS),-kills=$(KILLS)) $(if $(SYSTEMS),-systems=$(SYSTEMS))

bench-soak: ## who is convicted while CPUs are busy, packets are lost and daemons stand still, beside corosync; MINUTES=10 NODES=3 SYSTEMS= SEED=
	@mkdir -p bin
	@$(if $(findstring corosync,$(or $(SYSTEMS),corosync)),$(COROSYNC))
	@command -v nft >/dev/null || sh tools/bootstrap/install.sh 'to lose packets' nftables
	@$(BUILD) -o bin/ ./cmd/quorated ./tools/bench
	@bin/bench soak $(call SAID,NODES,-nodes=) $(call SAID,MINUTES,-minutes=) $(if $(SEED),-seed=$(SEED)) $(if $(SYSTEMS),-systems=$(SYSTEMS))

generate: ## the kernel's programs below ebpf/, compiled anew with a pinned clang
	@$(IN) sh tools/bootstrap/generate.sh

verify-generate: ## whether the objects below ebpf/ are those of their sources
	@$(IN) sh tools/bootstrap/generate.sh verify

evidence: ## docs/evidence.md: which faults are tried where, and how often, from the sources
	@$(IN) go run ./tools/evidence -w

lint: ## gofmt, go vet, staticcheck, the import rules
	@$(VERIFY) format vet lint
	@$(IN) CGO_ENABLED=0 go test ./tools/rules/...

fuzz: ## every fuzz target for a few seconds (FUZZTIME=2s)
	@$(VERIFY) $(if $(FUZZTIME),-fuzztime $(FUZZTIME)) fuzz

# The race detector is the only thing here that needs a C compiler.
race:
	@command -v gcc >/dev/null || sh tools/bootstrap/install.sh 'for the race detector' gcc libc6-dev

# The pages have the date of the commit: the same bytes from the same source.
man: export SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory='*' log -1 --format=%ct 2>/dev/null)
man: ## out/man: manual pages
	@mkdir -p bin
	@$(BUILD) -o bin/ ./cmd/quorate ./cmd/quorated
	@rm -rf out/man
	bin/quorate man out/man
	bin/quorated man out/man

DIST = cmd/quorated/dist
LIB  = $(DESTDIR)$(PREFIX)/lib
DOC  = $(PREFIX)/share/doc/quorate
DOCS = docs/operating.md docs/quorum.md docs/witness.md docs/import.md

# What a running system has to be told of.
ACTIVATE = systemd-sysusers && systemctl daemon-reload && udevadm control --reload && udevadm trigger -s misc

install: man ## programs, unit, udev rules, modules, group, man pages, completion, documents, reference configuration; DESTDIR= PREFIX=
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/sbin bin/quorated bin/quorate
	install -d $(LIB)/systemd/system $(LIB)/udev/rules.d $(LIB)/modules-load.d $(LIB)/sysusers.d $(LIB)/systemd/sleep.conf.d $(DESTDIR)$(SYSCONFDIR)/quorate
	sed 's|/usr/sbin/|$(PREFIX)/sbin/|g' $(DIST)/quorated.service >$(LIB)/systemd/system/quorated.service
	sed 's|/usr/sbin/|$(PREFIX)/sbin/|g' $(DIST)/quorate-witness.service >$(LIB)/systemd/system/quorate-witness.service
	install -m 0644 -t $(LIB)/udev/rules.d $(DIST)/*.rules
	install -m 0644 $(DIST)/modules-load.conf $(LIB)/modules-load.d/quorate.conf
	install -m 0644 $(DIST)/sysusers.conf $(LIB)/sysusers.d/quorate.conf
	install -m 0644 $(DIST)/sleep.conf $(LIB)/systemd/sleep.conf.d/quorate.conf
	sed 's|/usr/share/doc/quorate|$(DOC)|g' $(DIST)/quorate.toml | install -m 0644 /dev/stdin $(DESTDIR)$(SYSCONFDIR)/quorate/quorate.toml.example
	install -D -m 0644 -t $(DESTDIR)$(DOC) $(DOCS)
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 out/man/*.8
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man5 out/man/*.5
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	bin/quorate completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/quorate
	@if [ -n "$(DESTDIR)" ]; then echo 'Copy $(DESTDIR) to / of each node, then run there: $(ACTIVATE)'; \
	elif [ -d /run/systemd/system ]; then $(ACTIVATE); fi
	@echo 'Next: quorate keygen; cp $(SYSCONFDIR)/quorate/quorate.toml.example $(SYSCONFDIR)/quorate/quorate.toml; edit it; quorated -check; systemctl enable --now quorated'

clean: ## bin/ and out/; caches stay
	rm -rf bin out
