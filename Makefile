# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` bring what they need on a fresh Debian: hack/setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ENV     := . hack/env;
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.release=$(VERSION)
# Everything but the tests that boot a machine.
PACKAGES   = $$(go list ./... | grep -v '/lab/test')
FUZZTIME  ?= 3s
TESTFLAGS ?=

.PHONY: help setup demo test build vet lint unit race fuzz lab-test bench lab-shell clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## two hypervisors in a virtual machine become an encrypted, offloaded overlay
	@hack/setup demo
	@$(ENV) lab/run lab/demo.sh

test: ## everything that has to pass: vet, lint, unit, race, fuzz, lab-test
	@hack/setup test
	@hack/steps vet lint unit race fuzz lab-test

setup: ## fetch what the other targets need
	@hack/setup test

build: ## compile bin/ovs-ipsec-offload, static
	@$(ENV) CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/ovs-ipsec-offload

vet: ## go vet
	@$(ENV) go vet ./...

lint: ## staticcheck, errcheck, gofmt
	@$(ENV) staticcheck ./...
	@$(ENV) errcheck -exclude hack/errcheck.txt $$(go list ./... | grep -v /lab/)
	@$(ENV) files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt-ed: $$files"; exit 1; }
	@for f in hack/* .ci/run; do [[ $$(head -c 2 "$$f") != '#!' ]] || bash -n "$$f"; done

unit: ## tests without a virtual machine
	@$(ENV) go test $(TESTFLAGS) $(PACKAGES)

race: ## the same with the race detector
	@$(ENV) CGO_ENABLED=1 go test -race $(TESTFLAGS) $(PACKAGES)

fuzz: ## fuzz every decoder for a moment (FUZZTIME=3s each)
	@hack/fuzz $(FUZZTIME)

lab-test: ## tests in virtual machines
	@$(ENV) go test -count=1 -timeout 30m $(TESTFLAGS) ./lab/...

lab-shell: ## a shell in a virtual machine with two hypervisors
	@hack/setup demo
	@$(ENV) lab/shell

clean: ## remove what was built here; caches stay
	@rm -rf bin
