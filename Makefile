# SPDX-License-Identifier: Apache-2.0
# The front door: `make help` tells what there is. PRESET=release|dev|asan|tsan|fuzz chooses how things are built.

PRESET ?= release
BUILD := build$(if $(filter-out release,$(PRESET)),-$(PRESET))
SEED ?= 1
OPS ?= 10000
# Warnings are errors for us, not for those who only build.
STRICT := $(if $(filter true,$(CI)),-DMILLRACE_WERROR=ON)

.DEFAULT_GOAL := build
.PHONY: help deps deps-build deps-test deps-check configure build demo package test check format sim proto clean

help: ## Tell what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PRESET=release (default: build/), dev, asan, tsan or fuzz (build-<preset>/), as in: make test PRESET=asan"

deps: ## Install the Debian packages that are missing (for building, testing and checking)
	@tools/deps.sh

deps-build:
	@tools/deps.sh build

deps-test:
	@tools/deps.sh build test

deps-check:
	@tools/deps.sh build test check

configure:
	@cmake --preset $(PRESET) $(STRICT) >/dev/null

build: deps-build configure ## Build the programs: build/bin/millraced and build/bin/millrace
	@cmake --build $(BUILD) --target millraced millrace millrace_shared millrace_static

demo: build ## Run all five levels of jobs and show what became of them
	@MILLRACE_BIN=$(CURDIR)/$(BUILD)/bin tests/demo/demo.sh

package: deps-build configure ## Make the Debian package: build/package/millrace_*.deb
	@cmake --build $(BUILD) --target millraced millrace millrace_shared millrace_static manual
	@cd $(BUILD) && cpack

test: deps-test configure ## Run the whole test suite (C, end to end, clients)
	@cmake --build $(BUILD)
	@PRESET=$(PRESET) tools/test.sh $(BUILD)

check: deps-check configure ## Run the static rules: format, layers, clang-tidy, cppcheck, proto lint, scripts, links
	@cmake --build $(BUILD) --target millrace_proto
	@tools/check.sh $(BUILD)

format: deps-check ## Format the C code
	@clang-format-14 -i $$(tools/sources.sh)

sim: deps-test configure ## Replay a simulation: make sim SEED=1 OPS=10000
	@cmake --build $(BUILD) --target sim
	@$(BUILD)/bin/sim --seed $(SEED) --ops $(OPS)

proto: deps-check configure ## Lint the API, write its descriptor set to build/millrace.binpb, generate the clients' code
	@tools/buf.sh lint proto
	@tools/buf.sh build proto -o $(BUILD)/millrace.binpb
	@for script in clients/*/generate.sh; do $$script || exit 1; done

clean: ## Remove everything that was built
	rm -rf build build-dev build-asan build-tsan build-fuzz
