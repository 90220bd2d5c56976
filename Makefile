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
LDFLAGS = -s -w -X github.com/quorate/quorate/cmd/quorated/daemon.Version=$(VERSION)
BUILD   = $(IN) CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
VERIFY  = $(BUILD) -o bin/ ./tools/bootstrap/verify && $(IN) bin/verify

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= /usr/lib/systemd/system
UDEVDIR    ?= /usr/lib/udev/rules.d
MODLOADDIR ?= /usr/lib/modules-load.d
MANDIR     ?= $(PREFIX)/share/man

# What `make demo` may be told.
NODES   ?= 3
VICTIM  ?= follower
AGENT   ?= lab
PROFILE ?= lan
KEEP    ?=
export NODES VICTIM AGENT PROFILE KEEP

SEEDS ?= 2000
SEED  ?=
BUG   ?=

.PHONY: help build demo test test-full accept sim lint fuzz man install clean race

help: ## this list
	@echo 'make <goal>:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

build: ## bin/quorated, quorate, lab, sim, demo: static programs
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/quorated ./cmd/quorate ./tools/lab/cmd/lab ./tools/sim/cmd/sim ./tools/demo

demo: ## three real kernels, one dies; NODES= VICTIM=leader|follower AGENT=lab|redfish PROFILE= KEEP=1
	@mkdir -p bin
	@$(BUILD) -o bin/ ./tools/demo
	@$(IN) bin/demo

test: race ## everything: lint, tests, 2,000 simulated clusters, fuzz, real kernels (up to 40 min)
	@$(VERIFY)

test-full: race ## the same at length: more seeds, longer fuzz, the demo in a clean root
	@$(VERIFY) -full

accept: ## the acceptance stories on real kernels
	@$(VERIFY) kernel

sim: ## simulated clusters; SEEDS= SEED= BUG=skip-fence|skip-stop|skip-quorum
	@$(IN) CGO_ENABLED=0 go run -buildvcs=false ./tools/sim/cmd/sim --seeds=$(SEEDS) $(if $(SEED),--seed=$(SEED)) $(if $(BUG),--bug=$(BUG))

lint: ## gofmt, go vet, staticcheck, the import rules
	@$(VERIFY) format vet lint
	@$(IN) CGO_ENABLED=0 go test ./tools/rules/...

fuzz: ## every fuzz target for a few seconds (FUZZTIME=3s)
	@$(VERIFY) $(if $(FUZZTIME),-fuzztime $(FUZZTIME)) fuzz

# The race detector is the only thing here that needs a C compiler.
race:
	@command -v gcc >/dev/null || sh tools/bootstrap/install.sh 'for the race detector' gcc libc6-dev

man: ## out/man: manual pages
	@mkdir -p out/man
	$(IN) CGO_ENABLED=0 go run -buildvcs=false ./cmd/quorate man out/man

install: ## programs, units and reference configuration; DESTDIR= PREFIX=
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/quorated ./cmd/quorate
	install -D -m 0755 bin/quorated $(DESTDIR)$(PREFIX)/sbin/quorated
	install -D -m 0755 bin/quorate $(DESTDIR)$(PREFIX)/sbin/quorate

clean: ## bin/ and out/; caches stay
	rm -rf bin out
