# Weft. `make run` serves the playground, `make test` runs every test.
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN        := bin/weft
PLAYGROUND := cmd/weft/playground
NODE_TESTS := integration/node
DOCKER_TESTS := integration/docker
NPM_CI     := npm ci --no-audit --no-fund --loglevel=error
GO_FILES    = $(shell git ls-files '*.go' go.mod go.sum 2>/dev/null)
WEB_FILES   = $(shell git ls-files '$(PLAYGROUND)' 2>/dev/null | grep -v /dist/)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: run
run: build ## build all and serve the playground on http://localhost:8080
	./$(BIN) serve --dev

.PHONY: build
build: playground $(BIN) ## build bin/weft with the playground in it

$(BIN): $(GO_FILES) $(PLAYGROUND)/dist/index.html
	CGO_ENABLED=0 go build -trimpath -o $@ ./cmd/weft

.PHONY: playground
playground: $(PLAYGROUND)/dist/index.html ## build the playground's page (Node, npm)

$(PLAYGROUND)/dist/index.html: $(WEB_FILES)
	cd $(PLAYGROUND) && $(NPM_CI) && npm run --silent build
	@touch $@

.PHONY: test
test: vet test-go test-integration test-docker ## run every test (installs what they need)

.PHONY: vet
vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	cd integration && go vet ./...
	cd $(DOCKER_TESTS) && go vet ./...

.PHONY: test-go
test-go: ## the tests that need nothing but Go, and every benchmark once
	go test -race -shuffle=on -timeout 10m ./...
	go test -run TestSimulation -timeout 10m ./cluster
	go test -run '^$$' -bench . -benchtime 1x -timeout 10m ./... > /dev/null

.PHONY: test-deps
test-deps: ## install what the integration tests need: npm packages, Chromium
	./integration/deps.sh
	cd $(NODE_TESTS) && $(NPM_CI)

.PHONY: test-integration
test-integration: build test-deps ## against the published client and server, and in a browser
	cd integration && WEFT_BIN=$(abspath $(BIN)) go test -count=1 -timeout 20m ./...

.PHONY: test-docker
test-docker: build test-deps ## with Redis, several nodes and a load balancer in containers
	./$(DOCKER_TESTS)/deps.sh
	cd $(DOCKER_TESTS) && WEFT_BIN=$(abspath $(BIN)) ./with-docker.sh go test -count=1 -timeout 20m ./...

.PHONY: chaos
chaos: build ## the faults of test-docker at full load and length, with a table of what was measured (15 min)
	./$(DOCKER_TESTS)/deps.sh
	cd $(DOCKER_TESTS) && WEFT_CHAOS=long WEFT_BIN=$(abspath $(BIN)) ./with-docker.sh go test -count=1 -timeout 60m -v -run '^TestFaults$$' .

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (default 30s)
	for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep ^Fuzz || true); do \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-30s} $$pkg; \
	  done; \
	done

.PHONY: bench
bench: build test-deps ## measure Weft beside the published server (BENCH='--rounds 1' for options)
	cd integration && go run ./bench --weft $(abspath $(BIN)) $(BENCH)

.PHONY: cluster
cluster: build ## run Redis, three nodes and a load balancer here, with the playground
	cd integration && go run ./cluster --weft $(abspath $(BIN)) $(CLUSTER)

.PHONY: bench-cluster
bench-cluster: build ## measure three nodes that share a Redis (BENCH='--rounds 1' for options)
	cd integration && go run ./benchcluster --weft $(abspath $(BIN)) $(BENCH)

.PHONY: lint
lint: ## golangci-lint, if it is installed
	golangci-lint run ./...

.PHONY: image
image: build ## an image FROM scratch with nothing but bin/weft
	mkdir -p bin/data
	docker build -t weft .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin $(PLAYGROUND)/node_modules $(NODE_TESTS)/node_modules
