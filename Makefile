# make help lists the targets. Everything needs Go, make and git; what a target needs besides
# (clang, qemu) it installs on Debian itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# No package needs C, and a static binary runs on any distribution. Only the race detector differs.
export CGO_ENABLED := 0
# The version comes from git describe below; go's own stamping fails in trees owned by others.
export GOFLAGS += -buildvcs=false

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TOOL := go tool -modfile=tools/go.mod
BPF_SOURCES := $(wildcard bpf/*.c bpf/include/*.h bpf/test/*.c tools/peers/bpf/*.c)
# By pathspec, so that a file that is generated for the first time counts too.
GENERATED := ':(glob)internal/**/*_bpfe[lb].go' ':(glob)internal/**/*_bpfe[lb].o'

KERNELS := 6.1 6.12
KERNEL_TESTS := internal/datapath internal/packettest
FUZZTIME ?= 30s
BENCHCOUNT ?= 6

# In CI a skipped test fails the run, and few tests of what depends on time get another chance; see tools/noskip.
ifeq ($(CI),true)
TEST := go run -C tools ./noskip -dir .. -again '/(internal/(cluster|member)|test/(demo|e2e))$$' --
TEST_TOOLS := go run -C tools ./noskip --
else
TEST := go test
TEST_TOOLS := go test -C tools
endif

.DEFAULT_GOAL := build
.PHONY: help build generate generate-check fmt lint test test-race test-kernels bench bench-compare bench-drain \
	bench-gate bench-peers fuzz demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/lbd and bin/lbctl, static
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/lbd ./cmd/lbctl

generate: ## rebuild the BPF objects and their Go types with the pinned clang
	@tools/install-clang.sh
	go generate ./internal/datapath ./internal/packettest

generate-check: generate ## check that the committed BPF objects are what their sources give
	@changed=$$(git status --porcelain -- $(GENERATED)); \
	if [[ -n $$changed ]]; then \
		echo "$$changed"; \
		git --no-pager diff --stat -- $(GENERATED); \
		echo "generate-check: bpf/ and the committed objects differ: run make generate and commit the files above"; \
		exit 1; \
	fi

fmt: ## format Go and C
	@tools/install-clang.sh
	gofmt -w cmd internal test tools
	clang-format-19 -i $(BPF_SOURCES)

lint: ## check Go with golangci-lint and the layout of C
	@tools/install-clang.sh
	$(TOOL) golangci-lint run ./...
	clang-format-19 --dry-run -Werror $(BPF_SOURCES)
	go vet -C tools ./...

# -count=1: results depend on the kernel and on files that the cache of go test does not see. -p 1:
# packages that load the machine side by side would make each other's clients wait.
test: ## run all tests, as root; with CI=true a skipped test fails
	@tools/install-haproxy.sh
	$(TEST) -p 1 -count=1 -timeout 40m ./...
	$(TEST_TOOLS) -count=1 ./...

test-race: ## run all tests with the race detector (needs gcc)
	@tools/install-haproxy.sh
	CGO_ENABLED=1 go test -race -count=1 -timeout 30m ./...

test-kernels: ## run the datapath's tests on other kernels, in virtual machines
	@tools/vm/setup.sh
	@rm -rf .cache/kernel-tests && mkdir -p .cache/kernel-tests
	go test -c -o .cache/kernel-tests/ $(KERNEL_TESTS:%=./%)
	@tools/test-kernels.sh .cache/kernel-tests $(KERNELS)

bench: ## run the datapath's benchmarks on this machine
	go test -run '^$$' -bench . -count $(BENCHCOUNT) ./internal/datapath/...

bench-compare: ## let clients work through directors, nftables and HAProxy, in namespaces
	@tools/install-haproxy.sh
	go test -run '^$$' -bench DirectorsBesideOthers -benchtime 1x ./test/e2e

bench-drain: ## count the connections that planned changes break, by nftables' recipe and by ours
	go test -run '^$$' -bench BrokenByAPlannedChange -benchtime 1x ./test/e2e

bench-gate: ## count instructions in a virtual machine and compare with the committed figures
	tools/bench-gate.sh

bench-peers: ## count what other ways cost on Linux 6.1, in a virtual machine; ARGS goes to tools/peers
	tools/peers/run.sh $(ARGS)

fuzz: ## run each fuzz target for FUZZTIME
	@grep -rEo --include='*_test.go' '^func Fuzz\w+' cmd internal | while IFS=: read -r file func; do \
		echo "== $$file $${func#func }"; \
		go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) "./$${file%/*}" </dev/null; \
	done

demo: build ## show a whole cluster in network namespaces, as root; ARGS goes to lbctl demo
	bin/lbctl demo $(ARGS)

clean: ## remove what was built or fetched
	rm -rf bin .cache
