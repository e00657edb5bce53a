# SPDX-License-Identifier: Apache-2.0
# `make build`, `make demo` and `make test` bring what they need on a fresh Debian:
# hack/setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

ENV     := . hack/env;
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.release=$(VERSION)
FUZZTIME  ?= 60000x
TESTFLAGS ?=

.PHONY: help setup demo test build vet lint unit race fuzz lab-test lab-packages scenarios lab-selftest bench soak lab-shell clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The lab needs root: it makes a root file system with device nodes and compiles
# in it. Others go through sudo.
ifeq ($(shell id -u),0)

demo: ## two hypervisors in a virtual machine become an encrypted, offloaded overlay
	@hack/setup demo
	@hack/scenario lab/scenarios/demo.sh

test: ## everything that has to pass: vet, lint, unit, race, fuzz, lab-test
	@hack/setup test
	@hack/steps vet lint unit race fuzz lab-test

lab-test: lab-packages scenarios ## tests in virtual machines

lab-packages: ## tests of packages against a real kernel and the simulated NIC
	@$(ENV) CGO_ENABLED=0 go test -tags lab -count=1 -p 1 -timeout 30m -exec '$(CURDIR)/lab/exec --env RAPID_SEED' $(TESTFLAGS) $$(hack/lab-packages)

scenarios: ## two hypervisors, the daemon and traffic
	@$(ENV) go test -tags lab -count=1 -v -timeout 60m $(TESTFLAGS) ./lab/scenarios

lab-selftest: ## the lab itself: exit codes, hangs, panics, time limits
	@$(ENV) go test -tags selftest -count=1 -v -timeout 60m $(TESTFLAGS) ./lab/selftest

bench: ## figures of docs/performance.md
	@hack/setup demo
	@$(ENV) CGO_ENABLED=0 go test -tags lab -count=1 -v -timeout 60m -exec '$(CURDIR)/lab/exec --param max_rx_sa=0' ./lab/bench
	@$(ENV) CGO_ENABLED=0 go test -tags lab -p 1 -run '^$$' -bench . -timeout 60m -exec '$(CURDIR)/lab/exec --param max_rx_sa=0' ./tc
	@$(ENV) CGO_ENABLED=0 go test -tags lab -count=1 -v -timeout 60m -exec '$(CURDIR)/lab/exec --topology' ./lab/bench/gate
	@hack/scenario lab/scenarios/memory.sh
	@hack/scenario lab/scenarios/ike-scale.sh

soak: ## faults for a long time: every lost table, every step, ten minutes each of churn, rekeys, changes of keys (SEED, SOAK_SECONDS, POINTS)
	@hack/setup demo
	@SEED=$${SEED:-$$RANDOM}; export SEED; echo "SEED=$$SEED"; \
	CONTRACTS="$${CONTRACTS:-4 6 4s 6s}" hack/scenario lab/scenarios/lost.sh; \
	SHARE=100 POINTS=$${POINTS:-40} hack/scenario lab/scenarios/sweep.sh; \
	SOAK_SECONDS=$${SOAK_SECONDS:-600} PORTS=$${PORTS:-100} RATE=$${RATE:-10} hack/scenario lab/scenarios/soak.sh; \
	for s in ike-rekey-long rotate; do SOAK_SECONDS=$${SOAK_SECONDS:-600} hack/scenario lab/scenarios/$$s.sh; done; \
	export RAPID_SEED=$$SEED; $(ENV) go test -count=1 ./plugin -run 'TestAnyHistory|TestTwoHosts' -rapid.checks=5000 -timeout 30m

lab-shell: ## a shell in a virtual machine with two hypervisors
	@hack/setup demo
	@$(ENV) lab/shell

else

demo test lab-test lab-packages scenarios lab-selftest bench soak lab-shell:
	@command -v sudo >/dev/null || { echo 'make $@: needs root, and there is no sudo: run it as root' >&2; exit 1; }
	@exec sudo env PATH="$$PATH" make --no-print-directory $@ $(MAKEOVERRIDES)

endif

setup: ## fetch what the other targets need
	@hack/setup test

build: ## compile bin/ovs-ipsec-offload, static
	@hack/setup build
	@$(ENV) CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/ovs-ipsec-offload

vet: ## go vet
	@$(ENV) go vet -tags lab,selftest ./...
	@$(ENV) go vet -tags faultpoint ./cmd/...

lint: ## staticcheck, errcheck, gofmt
	@$(ENV) staticcheck -tags lab,selftest ./...
	@$(ENV) errcheck -ignoretests -ignore '[cC]lose,fmt:.*' ./...
	@$(ENV) files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt-ed: $$files"; exit 1; }
	@for f in hack/* .ci/run; do [[ $$(head -c 2 "$$f") != '#!' ]] || bash -n "$$f"; done

unit: ## tests without a virtual machine
	@$(ENV) go test -timeout 30m $(TESTFLAGS) ./...

race: ## the same with the race detector
	@$(ENV) CGO_ENABLED=1 go test -race -short -timeout 30m $(TESTFLAGS) ./...

fuzz: ## fuzz every decoder for a moment (FUZZTIME=60000x each)
	@hack/fuzz $(FUZZTIME)

clean: ## remove what was built here; caches stay
	@rm -rf bin
