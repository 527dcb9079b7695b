# Everything a contributor or a machine does here. `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_NATIVE := -tags native -trimpath -ldflags "-X main.version=$(VERSION)"
ARGS ?=
OUT ?= build/model

##@ Use

.PHONY: run
run: build ## set up all that is needed, build, and serve the default bundle (ARGS="--help" for its flags)
	exec bin/weir serve $(ARGS)

.PHONY: build
build: setup ## build bin/weir with the native classifier
	CGO_ENABLED=1 go build $(GOFLAGS_NATIVE) -o bin/ ./cmd/weir

.PHONY: setup
setup: ## put the native libraries in third_party/lib (idempotent; see scripts/setup)
	scripts/setup

.PHONY: demo
demo: build ## real local models behind Weir, no key: streams, a server killed in mid-run, the ledger (ARGS="--keep" leaves it up)
	scripts/demo/run $(ARGS)

##@ Test

.PHONY: test
test: ## set up all that is needed and run every test: plain, native under the race detector, Python
	scripts/test

.PHONY: test-go
test-go: ## only what needs no native library: plain `go test ./...`
	scripts/test plain

.PHONY: race
race: ## only the native tests under the race detector
	scripts/test native

.PHONY: cover
cover: setup ## coverage of all packages, native included: build/coverage.html, and the total on the last line
	mkdir -p build
	go test -tags native -coverpkg=./... -coverprofile=build/coverage.out ./...
	go tool cover -html=build/coverage.out -o build/coverage.html
	go tool cover -func=build/coverage.out | tail -n 1

.PHONY: fuzz
fuzz: setup ## one minute of fuzzing, shared among all targets
	scripts/campaign minute

.PHONY: campaign
campaign: setup ## the long tests, then CAMPAIGN_EXECS executions of every fuzz target (default 1000000); ARGS="swaps" or "mutants" for one alone
	scripts/campaign $(ARGS)

.PHONY: bench
bench: build ## measure scoring and Route on this machine, with ghz as a cross-check; rewrites the tables in docs
	scripts/bench

.PHONY: bench-complete
bench-complete: build ## measure Complete beside a direct call and a bare proxy; ARGS=--litellm for LiteLLM's too; rewrites docs/benchmarks.md
	scripts/bench-complete $(ARGS)

##@ Models

.PHONY: train
train: ## train a bundle into OUT (default build/model) from the outcome sets in WEIR_DATA (ARGS: more flags)
	scripts/setup-python --model
	mkdir -p $(OUT)
	cd scripts/train && OMP_WAIT_POLICY=PASSIVE ../../build/venv/bin/python -m weirtrain train --out $(abspath $(OUT)) $(ARGS)

.PHONY: model-verify
model-verify: build ## prove the committed bundles: digests, contract, golden probes
	for bundle in models/*/manifest.json; do bin/weir model verify "$$(dirname "$$bundle")"; done

.PHONY: eval
eval: build ## replay the recorded sets through models/default: cost saved against quality kept (ARGS: more flags)
	scripts/eval $(ARGS)

##@ Change

.PHONY: check
check: test lint ## what has to pass before a change lands: test and lint

.PHONY: lint
lint: setup ## every check of the tree: format, linters, proto contract, generated code, scripts, house rules
	scripts/lint

.PHONY: fmt
fmt: ## format the Go code and sort its imports
	scripts/tool golangci-lint
	build/bin/golangci-lint fmt ./...

.PHONY: generate
generate: ## write the Go that is generated from proto/
	scripts/generate

.PHONY: proto-image
proto-image: ## accept additions to the wire contract into proto/weir.binpb; refuses breaking changes
	scripts/generate image

.PHONY: vuln
vuln: setup ## look the dependencies up in the Go vulnerability database (needs the network)
	scripts/tool govulncheck
	build/bin/govulncheck -tags native ./...

.PHONY: tools
tools: ## build every pinned tool into build/bin
	scripts/tool all

.PHONY: clean
clean: ## delete what was built; third_party/lib stays, because it takes minutes to make
	rm -rf bin build

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "; print "usage: make TARGET"} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
