# Weft. `make run` serves the playground, `make test` runs every test.
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN        := bin/weft
DIST       := dist
OUT        := bin
TOOLS      := integration/tools
PLAYGROUND := cmd/weft/playground
NODE_TESTS := integration/node
DOCKER_TESTS := integration/docker
CHART_TESTS := integration/chart
KUBE_TESTS := integration/kube
NPM_CI     := npm ci --no-audit --no-fund --loglevel=error
# Those below KUBE_TESTS build programs of others, which takes minutes, and have next to no code.
GO_MODULES  = $(filter-out $(KUBE_TESTS)/%/,$(dir $(shell git ls-files go.mod '*/go.mod' 2>/dev/null)))
GO_FILES    = $(shell git ls-files '*.go' '*.lua' go.mod go.sum 2>/dev/null)
WEB_FILES   = $(shell git ls-files '$(PLAYGROUND)' 2>/dev/null | grep -v /dist/)

# What this checkout is: v1.2.3, the commit, and the commit's time. Builds say it, and of one commit
# they are the same bytes.
CHECKOUT          := $(shell $(TOOLS)/version.sh)
VERSION           := $(word 1,$(CHECKOUT))
COMMIT            := $(word 2,$(CHECKOUT))
SOURCE_DATE_EPOCH := $(word 3,$(CHECKOUT))
GO_BUILD           = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'
BINARY_NEEDS       = $(GO_FILES) $(PLAYGROUND)/dist/index.html $(OUT)/version
IMAGE_ARCH         = $(shell go env GOARCH)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: run
run: build ## build everything and serve the playground on http://localhost:8080
	./$(BIN) serve --dev

.PHONY: build
build: playground $(BIN) ## build bin/weft with the playground in it

$(BIN): $(BINARY_NEEDS)
	$(GO_BUILD) -o $@ ./cmd/weft

$(OUT)/linux-%/weft: $(BINARY_NEEDS)
	GOOS=linux GOARCH=$* $(GO_BUILD) -o $@ ./cmd/weft

# Changes when the version does, and then what has it is built anew.
$(OUT)/version: ALWAYS
	@mkdir -p $(@D)
	@echo '$(VERSION) $(COMMIT)' | cmp -s - $@ || echo '$(VERSION) $(COMMIT)' > $@
.PHONY: ALWAYS

.PHONY: playground
playground: $(PLAYGROUND)/dist/index.html ## build the playground's page (Node, npm)

$(PLAYGROUND)/dist/index.html: $(WEB_FILES)
	cd $(PLAYGROUND) && $(NPM_CI) && npm run --silent build
	@touch $@

.PHONY: test
test: vet lint test-go chart-test test-release test-integration test-docker ## run every test (installs what they need)

.PHONY: vet
vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	for module in $(GO_MODULES); do (cd $$module && go vet ./...); done

.PHONY: lint
lint: bin/golangci-lint ## golangci-lint over every Go module, as .golangci.yml has it
	status=0; for module in $(GO_MODULES); do \
	  (cd $$module && $(abspath bin/golangci-lint) run --config $(abspath .golangci.yml) --timeout 15m ./...) || status=1; \
	done; exit $$status

bin/golangci-lint: $(TOOLS)/go.mod
	cd $(TOOLS) && go build -trimpath -o $(abspath $@) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: vulncheck
vulncheck: ## govulncheck over every Go module (needs its database on the network)
	cd $(TOOLS) && go build -trimpath -o $(abspath bin/govulncheck) golang.org/x/vuln/cmd/govulncheck
	for module in $(GO_MODULES); do (cd $$module && $(abspath bin/govulncheck) ./...); done

.PHONY: test-go
test-go: ## the tests that need nothing but Go, and every benchmark once
	go test -race -shuffle=on -timeout 10m ./...
	go test -run TestSimulation -timeout 10m ./cluster
	cd $(KUBE_TESTS) && go test ./images ./withkube
	go test -run '^$$' -bench . -benchtime 1x -timeout 10m ./... > /dev/null

.PHONY: test-release
test-release: playground ## check that a release is right, and the same bytes wherever it is made
	cd $(TOOLS) && go test -count=1 -timeout 20m ./...

.PHONY: test-deps
test-deps: ## install what the integration tests need: npm packages, Chromium
	./integration/deps.sh
	cd $(NODE_TESTS) && $(NPM_CI)

.PHONY: test-integration
test-integration: test-deps build ## against the published client and server, and in a browser
	cd integration && WEFT_BIN=$(abspath $(BIN)) go test -count=1 -timeout 20m ./...

.PHONY: test-docker
test-docker: test-deps build ## with Redis, several nodes and a load balancer in containers
	./$(DOCKER_TESTS)/deps.sh
	cd $(DOCKER_TESTS) && WEFT_BIN=$(abspath $(BIN)) ./with-docker.sh go test -count=1 -timeout 20m ./...

.PHONY: chart-test
chart-test: ## test the Helm chart, rendered over a matrix of values (no cluster)
	cd $(CHART_TESTS) && go vet ./... && go test -count=1 -timeout 15m ./...

.PHONY: chart-docs
chart-docs: ## write the chart's README from its template and values.yaml
	cd $(CHART_TESTS) && go test -count=1 -run TestReadmeIsCurrent . -update

.PHONY: chaos
chaos: build ## the faults of test-docker at full load and length, with a table of what was measured (15 min)
	./$(DOCKER_TESTS)/deps.sh
	cd $(DOCKER_TESTS) && WEFT_CHAOS=long WEFT_BIN=$(abspath $(BIN)) ./with-docker.sh go test -count=1 -timeout 60m -v -run '^TestFaults$$' .

.PHONY: kube-test
kube-test: bin/ca-certificates.crt ## install the chart into a Kubernetes made here (root), under 200 clients; see bin/kube-report.md
	./$(KUBE_TESTS)/deps.sh
	cd $(NODE_TESTS) && $(NPM_CI)
	cd $(KUBE_TESTS) && go build -o $(abspath bin/withkube) ./withkube
	cd $(KUBE_TESTS) && WEFT_KUBE_REPORT=$(abspath bin/kube-report.md) $(abspath bin/withkube) \
	  go test -count=1 -timeout 45m -v -run '^TestKubernetes$$' .

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

.PHONY: size
size: build ## measure what sockets, rooms and edits take, for planning (3 min)
	cd integration && go run ./size --weft $(abspath $(BIN))

.PHONY: cluster
cluster: build ## run Redis, three nodes and a load balancer here, with the playground (redis-server, haproxy)
	cd integration && go run ./cluster --weft $(abspath $(BIN)) $(CLUSTER)

.PHONY: bench-cluster
bench-cluster: build ## measure three nodes that share a Redis (BENCH='--rounds 1' for options)
	cd integration && go run ./benchcluster --weft $(abspath $(BIN)) $(BENCH)

.PHONY: image
image: bin/linux-$(IMAGE_ARCH)/weft bin/ca-certificates.crt ## build the container image weft:VERSION and weft:latest, also as bin/weft-image.tar
	./$(DOCKER_TESTS)/deps.sh docker
	VERSION='$(VERSION)' COMMIT='$(COMMIT)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' ARCH='$(IMAGE_ARCH)' \
	  ./$(DOCKER_TESTS)/with-docker.sh ./$(DOCKER_TESTS)/image.sh

bin/ca-certificates.crt: $(TOOLS)/cacerts/main.go $(TOOLS)/go.sum
	mkdir -p $(@D)
	cd $(TOOLS) && go run ./cacerts > $(abspath $@).new
	mv $@.new $@

.PHONY: version
version: ## print the version of this checkout
	@echo '$(VERSION)'

.PHONY: release
release: $(OUT)/linux-amd64/weft $(OUT)/linux-arm64/weft ## fill dist/: static binaries, checksums, and an SBOM
	rm -rf '$(DIST)'
	mkdir -p '$(DIST)'
	for arch in amd64 arm64; do cp $(OUT)/linux-$$arch/weft '$(DIST)/weft-$(VERSION)-linux-'$$arch; done
	cd $(TOOLS) && go run ./sbom -version '$(VERSION)' -created '$(SOURCE_DATE_EPOCH)' \
	  -out '$(abspath $(DIST))/weft-$(VERSION).spdx.json' '$(abspath $(DIST))'/weft-*
	cd '$(DIST)' && sha256sum weft-* > SHA256SUMS
	@cat '$(DIST)/SHA256SUMS'

.PHONY: docs
docs: ## write docs/settings.md from the settings themselves
	go run ./cmd/weft config reference > docs/settings.md

.PHONY: clean
clean: ## remove what was built
	rm -rf bin $(DIST) $(PLAYGROUND)/node_modules $(NODE_TESTS)/node_modules
