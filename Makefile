# Everything a person types; each target installs what it needs, so that a bare machine needs only make, python3 and go.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/progressive-platform
PLAYBOOK := $(BIN)/ansible-playbook
# What the tests of monitoring and tracing watch, MongoDB's protocol among it.
WATCHED := ["baseline", "postgresql", "mongodb", "redis_cluster", "app", "agents", "tracing", "monitoring", "autoscaling"]
# Scenarios whose images are not built by default: `make mesh`, `make monitoring`, `make operator`.
OTHERS := istio gateway monitoring tracing autoscaling operator
COPY := build/collection/ansible_collections/progressive/platform

.PHONY: help up down status kubeconfig test test-all mesh monitoring autoscalers together operator compose cosign lint sanity unit bill bench docs site package clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/ready: requirements.txt requirements-dev.txt images/services/requirements.in
	@echo "== Python tools into $(VENV)"
	python3 -m venv $(VENV) || { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv $(VENV); }
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	for site in $(VENV)/lib/python3.*/site-packages/ansible_collections; do mkdir -p $$site/progressive; ln -sfn "$(CURDIR)" $$site/progressive/platform; done
	touch $@

up: $(VENV)/ready ## a Kubernetes on this machine, the images, the platform, a green health report
	PROGRESSIVE_PLATFORM_PROGRESS_PLAIN=1 PROGRESSIVE_PLATFORM_PROGRESS_INTERVAL=60 $(PLAYBOOK) -i inventories/local playbooks/local_cluster.yml playbooks/images.yml playbooks/site.yml

down: $(VENV)/ready ## remove the local cluster; builds, images and reports stay
	$(PLAYBOOK) -i inventories/local playbooks/local_cluster.yml -e local_cluster_state=down

status: $(VENV)/ready ## what of the local cluster runs
	$(PLAYBOOK) -i inventories/local playbooks/local_cluster.yml -e local_cluster_state=status

kubeconfig: ## print the path of the local cluster's kubeconfig
	@echo "$(CACHE)/run/kubeconfig"

lint: $(VENV)/ready ## ruff, mypy, yamllint, ansible-lint, changelog fragments
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	rm -rf build/mypy; mkdir -p build/mypy/ansible_collections/progressive; ln -sfn "$(CURDIR)" build/mypy/ansible_collections/progressive/platform
	MYPYPATH=build/mypy $(BIN)/mypy -p ansible_collections.progressive.platform.plugins
	cd images/services && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p progressive
	MYPYPATH=build/mypy $(BIN)/mypy images/operator/run.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --strict
	$(BIN)/antsibull-changelog lint

# ansible-test wants the collection at ansible_collections/<namespace>/<name>, so it gets a copy of what git knows.
$(COPY): FORCE
	rm -rf $@; mkdir -p $@
	git ls-files -co --exclude-standard --deduplicate | while read -r file; do [ ! -e "$$file" ] || echo "$$file"; done | tar -cf - -T - | tar -xf - -C $@
	git -C $@ init --quiet  # or ansible-test asks the checkout around it, where build/ is ignored
FORCE:

sanity: $(VENV)/ready $(COPY) ## ansible-test sanity, without an ignore file
	# ansible-test looks here for the pip installer that it would otherwise download
	mkdir -p ~/.ansible/test/cache; cp -n tests/sanity/get_pip.py ~/.ansible/test/cache/get_pip_24_2.py
	cd $(COPY) && PATH="$(CURDIR)/$(BIN):$$PATH" ansible-test sanity --venv --python $$("$(CURDIR)/$(BIN)/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') --color no

.PHONY: redis-server
redis-server:
	@command -v redis-server >/dev/null || { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends redis-server redis-tools; }

.PHONY: promtool
promtool:
	@command -v promtool >/dev/null || { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends prometheus; }

KWOK := v0.8.0
.PHONY: kwok
kwok: ## nodes and pods without servers, for tests/kwok (a Go module, some minutes of compiling, once)
	@mkdir -p $(CACHE)/bin; [ -x $(CACHE)/bin/kwok-$(KWOK) ] || { folder=$$(mktemp -d); GOFLAGS=-mod=mod GOBIN=$$folder go install sigs.k8s.io/kwok/cmd/kwok@$(KWOK); mv $$folder/kwok $(CACHE)/bin/kwok-$(KWOK); rmdir $$folder; }
	@ln -sfn kwok-$(KWOK) $(CACHE)/bin/kwok

# VPA's go.mod excludes versions, which "go install" refuses; a module that only requires it does not need them excluded.
VPA := v1.8.1
$(CACHE)/bin/vpa-%-$(VPA):
	@mkdir -p $(@D); folder=$$(mktemp -d); cd $$folder; printf 'module programs\nrequire k8s.io/autoscaler/vertical-pod-autoscaler $(VPA)\n' > go.mod; GOFLAGS=-mod=mod CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o program k8s.io/autoscaler/vertical-pod-autoscaler/pkg/$*; mv program $@; rm -r $$folder
# Karpenter asks for a patch of Go that nobody needs; Go fetches it all the same and then refuses it, so a copy of it asks for less.
KARPENTER := v1.15.0
$(CACHE)/bin/karpenter-$(KARPENTER):
	@mkdir -p $(@D); folder=$$(mktemp -d); cd $$folder; go mod download sigs.k8s.io/karpenter@$(KARPENTER) 2>/dev/null || true; cp -r --no-preserve=mode $$(go env GOMODCACHE)/sigs.k8s.io/karpenter@$(KARPENTER)/. .; go mod edit -go=1.26.0; GOFLAGS=-mod=mod CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o program ./kwok; mv program $@; rm -r $$folder
# KEDA's go.mod replaces versions, which hold only inside of its own folder.
KEDA := v2.21.0
$(CACHE)/bin/keda-adapter-$(KEDA):
	@mkdir -p $(@D); folder=$$(mktemp -d); go mod download github.com/kedacore/keda/v2@$(KEDA); cd "$$(go env GOMODCACHE)/github.com/kedacore/keda/v2@$(KEDA)"; CGO_ENABLED=0 go build -p 2 -trimpath -ldflags "-s -w -X github.com/kedacore/keda/v2/version.Version=$(KEDA:v%=%)" -o $$folder/ ./cmd/operator ./cmd/adapter; mv $$folder/operator $(@D)/keda-$(KEDA); mv $$folder/adapter $@; rmdir $$folder

autoscalers: up kwok promtool $(CACHE)/bin/vpa-recommender-$(VPA) $(CACHE)/bin/vpa-updater-$(VPA) $(CACHE)/bin/karpenter-$(KARPENTER) $(CACHE)/bin/keda-adapter-$(KEDA) ## KEDA, VPA and Karpenter at work on what is rendered for them, with nodes and pods of KWOK's (Go modules, up to an hour of compiling, once)
	for each in vpa-recommender-$(VPA) vpa-updater-$(VPA) karpenter-$(KARPENTER) keda-$(KEDA) keda-adapter-$(KEDA); do ln -sfn $$each $(CACHE)/bin/$${each%-v*}; done
	$(BIN)/pytest tests/kwok/test_vertical.py tests/kwok/test_karpenter.py tests/kwok/test_keda.py

.PHONY: registry
registry:
	@{ command -v skopeo && command -v docker-registry && command -v buildah; } >/dev/null || { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends skopeo docker-registry buildah; }

.PHONY: postgresql-server
postgresql-server:
	@ls /usr/lib/postgresql/*/bin/postgres /usr/bin/pgbackrest >/dev/null 2>&1 || { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends postgresql pgbackrest; }

.PHONY: podman
podman:
	@command -v podman >/dev/null || { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends podman netavark aardvark-dns; }

unit: $(VENV)/ready redis-server promtool registry ## the fast tests: no cluster, servers on loopback at most
	$(BIN)/pytest tests/unit

test: lint sanity redis-server promtool registry postgresql-server kwok up ## everything CI runs: lint, sanity, the platform itself, molecule, unit, redis and cluster tests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test --all $(OTHERS:%=--exclude %)
	$(BIN)/pytest -n 4 --dist worksteal -m "not slow" --ignore tests/cluster --ignore tests/kwok tests
	$(BIN)/pytest -m "not slow" tests/kwok  # in one process: its tests go on from each other
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not alone" tests/cluster
	$(BIN)/pytest -m "not slow and alone" tests/cluster  # one by one: there is one cluster, and these break it

mesh: up ## Istio's programs and images (ten minutes of compiling, once), its scenarios and probes
	$(PLAYBOOK) -i inventories/local playbooks/local_cluster.yml playbooks/images.yml -e platform_mesh=true
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s istio
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s gateway
	$(BIN)/pytest -m mesh tests/unit/istio tests/cluster

monitoring: up kwok ## Prometheus, kube-state-metrics, the adapter, the descheduler and Jaeger (some minutes of compiling, once), their images, the scenarios with real faults and loads
	$(PLAYBOOK) -i inventories/local playbooks/images.yml -e '{"platform_components": $(WATCHED), "autoscaling_descheduler": true}'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s monitoring
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s tracing
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s autoscaling
	$(BIN)/pytest -m monitoring tests/cluster
	$(BIN)/pytest tests/kwok/test_descheduler.py

together: up ## what has its own tests, with each other: an Agent and monitoring in the mesh, pages for people behind the edge, spans of proxies (all images)
	$(PLAYBOOK) -i inventories/local playbooks/local_cluster.yml playbooks/images.yml -e '{"platform_mesh": true, "platform_monitoring": true, "platform_tracing": true, "platform_operator": true, "gateway_uis": {"prometheus": {}}}'
	$(BIN)/pytest tests/unit/istio/test_uis_envoy.py tests/unit/istio/test_spans_envoy.py
	$(BIN)/pytest -m together tests/cluster

operator: up ## the operator's image, its scenario, and what it does on the cluster
	$(PLAYBOOK) -i inventories/local playbooks/images.yml -e platform_operator=true
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s operator
	$(BIN)/pytest -m operator tests/cluster

cosign: $(VENV)/ready registry ## cosign from its Go module (many minutes of compiling, once), and the test that signs and verifies with it
	@[ -x $(CACHE)/tools/cosign ] || GOBIN=$(CACHE)/tools CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" github.com/sigstore/cosign/v2/cmd/cosign@v2.4.3
	PATH="$(CACHE)/tools:$$PATH" $(BIN)/pytest tests/unit/images/test_publish.py -k cosign

compose: podman up ## compose.dev.yml on podman, with the images of the local cluster
	$(PLAYBOOK) -i inventories/local playbooks/images.yml -e platform_monitoring=true
	$(BIN)/pytest tests/compose

test-all: test operator podman ## and what is slow by nature: long chaos, every step of a kill, the cluster from nothing, the package, the benchmarks
	$(PLAYBOOK) -i inventories/local playbooks/images.yml -e '{"postgresql_backup_storage": {"volume": {"size": "512Mi"}}, "autoscaling_descheduler": true}'
	$(BIN)/pytest -n 4 --dist worksteal -m "slow and not mesh and not monitoring" --ignore tests/cluster --ignore tests/kwok tests
	$(BIN)/pytest -m "slow and not mesh and not monitoring and not together and not operator" tests/cluster
	$(BIN)/pytest -m slow tests/kwok
	$(MAKE) down
	$(MAKE) package bench

bill: $(VENV)/ready ## every image with digest and every file with checksum that any of the inventories needs: rendered/bill.json
	for each in inventories/*/; do $(PLAYBOOK) -i "$$each" playbooks/bill.yml || exit 1; done

bench: redis-server kwok up ## measure against the rivals; writes benchmarks/results.json
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/ready ## regenerate the variable tables of the roles' READMEs and the tables of states
	$(BIN)/python tests/unit/roles/readme.py
	$(BIN)/python tests/unit/original.py
	$(BIN)/python docs/architecture.py
	$(BIN)/python tests/unit/redis/states.py
	$(BIN)/python tests/unit/mongodb/states.py
	$(BIN)/python tests/unit/postgresql/states.py
	$(BIN)/python tests/postgresql/faults.py
	$(BIN)/python tests/unit/monitoring/runbooks.py

site: $(VENV)/ready ## the documentation as a site, guides and reference: build/site/html/index.html
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(BIN)/python docs/website.py

package: $(VENV)/ready ## the tarball for Galaxy, checked by galaxy-importer
	mkdir -p build && $(BIN)/ansible-galaxy collection build --force --output-path build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m galaxy_importer.main build/progressive-platform-*.tar.gz

.PHONY: ee
ee: $(VENV)/ready podman ## the execution environment with this collection: progressive-platform-ee in podman (asks Galaxy and a registry)
	rm -rf build/ee; mkdir -p build/ee && $(BIN)/ansible-galaxy collection build --force --output-path build/ee
	mv build/ee/progressive-platform-*.tar.gz build/ee/progressive-platform.tar.gz
	$(BIN)/ansible-builder build --container-runtime podman --context build/ee/context --tag progressive-platform-ee:latest

clean: ## remove what make built here (not the caches)
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache
