# End-user authentication with Istio and Keycloak on AWS EKS. `make help` lists the targets.

ENV ?= dev
PYTHON ?= .venv/bin/python
export PYTHONPATH := $(CURDIR)
export CONFIRM
unexport PYTHONDONTWRITEBYTECODE # compiled modules are kept in __pycache__: without them a kernel takes 4 s to import lib

SERIES = $(if $(FROM),--from $(FROM)) $(if $(ONLY),--only $(ONLY))
TEST_MINUTES = 65 # after them `make test` begins no test on the sandbox
# The tests' workers take a file at a time, in the tests' order (tests/conftest.py)
WORKERS = -n auto --dist loadfile --no-loadscope-reorder
# Only the local environment needs the sandbox
SANDBOX = $(if $(filter dev,$(ENV)),up)

.DEFAULT_GOAL := help
.PHONY: help env run browser plan why up down status logs build drop-caches image watch fleet lab params kubeconfig verify clean-up bundle compare history probes-slow vectors conformance test test-evaluator test-fast test-browser bench check lock

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## the Python environment .venv, from requirements.lock; other targets call this
	@$(if $(filter .venv/bin/python,$(PYTHON)),python3 tools/environment.py,true)

run: env $(SANDBOX) $(if $(SANDBOX),browser) ## run the notebooks 00-15 and leave a record: ENV=dev|eks|existing [FROM=04] [ONLY=11] [CONFIRM=yes]
	@$(PYTHON) -m lib run --env $(ENV) $(SERIES)

browser: ## install Chromium, its driver and certutil for step 13 and the tests of pages (Debian, as root)
	@python3 tools/browser.py

up: env ## start the sandbox: build missing parts, start the AWS endpoint
	@$(PYTHON) -m sandbox up

down: env ## end the sandbox; only the cache stays
	@$(PYTHON) -m sandbox down

status: env ## the sandbox's parts: version, origin, pid, memory, state
	@$(PYTHON) -m sandbox status

logs: env ## the sandbox's logs: PART=kubelet shows one
	@$(PYTHON) -m sandbox logs $(PART)

build: env ## build the sandbox's parts without starting it
	@$(PYTHON) -m sandbox build

drop-caches: env ## build, then delete Go's module and build caches (6 GB); the built parts stay
	@$(PYTHON) -m sandbox build --drop-caches

image: env ## the runbook as an OCI image without a container engine, in outputs/image; a sandbox that runs gets it
	@$(PYTHON) -m sandbox image

watch: env ## a standing proof: a CronJob sends the probes of ENV, and this prints each control's last proof [EVERY='17 * * * *' STALE=hours IMAGE=… OFF=yes]
	@$(PYTHON) -m lib.watch put --env $(ENV) --image $(or $(IMAGE),eks-sandbox.local/runbook:0.1.0) $(if $(EVERY),--schedule '$(EVERY)') \
	  $(if $(STALE),--stale-after $(STALE)) $(if $(filter yes,$(OFF)),--off)

fleet: env ## ask many clusters by one Job: FLEET=params/fleet.yml [IMAGE=… ROUND=id SINCE=id]; with IMAGE=none only gather their bundles
	@$(PYTHON) -m lib.fleet $(if $(filter none,$(IMAGE)),gather,put --image $(or $(IMAGE),eks-sandbox.local/runbook:0.1.0)) \
	  --fleet $(or $(FLEET),params/fleet.yml) $(if $(ROUND),--round $(ROUND)) $(if $(SINCE),--since $(SINCE))

# JupyterLab keeps the layout of its windows in .jupyter; at first the table of contents is open
lab: export JUPYTERLAB_WORKSPACES_DIR = $(CURDIR)/.jupyter
lab: export JUPYTER_CONFIG_PATH = $(CURDIR)/tools/jupyter
lab: env $(SANDBOX) ## JupyterLab on this machine's loopback, on your own copies of the notebooks in work/
	@$(PYTHON) tools/lab.py
	@test -d .jupyter || $(PYTHON) -m jupyterlab workspaces import tools/jupyter/workspace.json > /dev/null
	@$(PYTHON) -m jupyterlab --allow-root --ServerApp.ip=127.0.0.1 \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/work/00-start-here.ipynb

plan: env ## what make run would create in the AWS account of ENV, its cost and its obstacles; changes nothing
	@$(PYTHON) -m lib plan --env $(ENV)

why: env ## explain a refused request: URL=… [HOST=…] [TO=address] [TOKEN_FILE=…] [FROM=pod] [METHOD=…] [HEADER='Name: value'] [DATA=…]
	@$(PYTHON) -m lib why --env $(ENV) '$(URL)' $(if $(HOST),--host $(HOST)) $(if $(TO),--to $(TO)) \
	  $(if $(TOKEN_FILE),--token-file $(TOKEN_FILE)) $(if $(FROM),--from $(FROM)) \
	  $(if $(METHOD),--method $(METHOD)) $(if $(HEADER),--header '$(HEADER)') $(if $(DATA),--data '$(DATA)')

params: env ## check params/$(ENV).yml and print all values with their defaults
	@$(PYTHON) -m lib params $(ENV)

kubeconfig: ## the kubeconfig's path, for: export KUBECONFIG=$(make -s kubeconfig)
	@echo $(CURDIR)/.kube/$(ENV)

verify: env ## check a run's bundle and make again what follows from its events: RUN=outputs/dev/…, else all of ENV [KEY=signer.pem WITNESS=… TIME_STAMP_CA=root.pem]
	@$(PYTHON) -m lib verify $(or $(RUN),--env $(ENV)) $(if $(KEY),--key $(KEY)) $(if $(WITNESS),--witness $(WITNESS)) $(if $(TIME_STAMP_CA),--time-stamp-ca $(TIME_STAMP_CA))

bundle: env ## pack a run's bundle as one reproducible zip: RUN=outputs/dev/… [TO=s3://… RETAIN=days]
	@$(PYTHON) -m lib bundle $(RUN) $(if $(TO),--to $(TO)) $(if $(RETAIN),--retain-days $(RETAIN))

compare: env ## the differences of two runs, also as a page: A=outputs/dev/… B=outputs/dev/…
	@$(PYTHON) -m lib compare $(A) $(B)

history: env ## the runs of ENV, oldest first, also as a page with a picture
	@$(PYTHON) -m lib history $(ENV)

clean-up: env ## delete everything that the runbook created in ENV (notebook 99) [CONFIRM=yes]
	@$(PYTHON) -m lib clean-up --env $(ENV)

probes-slow: env $(SANDBOX) ## the probes that wait (key rotation, outages): notebook 90, about 10 minutes, after make run
	@$(PYTHON) -m lib probes-slow --env $(ENV)

vectors: env ## public test vectors (Project Wycheproof, the RFCs) against Envoy's JWT filter
	@places=$$($(PYTHON) -m sandbox vectors | tail -1) && $(PYTHON) -m lib.vectors \
	  --envoy "$$(echo "$$places" | $(PYTHON) -c 'import json,sys; print(json.load(sys.stdin)["envoy"])')" \
	  --vectors "$$(echo "$$places" | $(PYTHON) -c 'import json,sys; print(json.load(sys.stdin)["vectors"])')"

conformance: env ## the Gateway API's own conformance suite, after make run, 5 minutes; SUITE=istio: Istio's security suites, after make run ONLY=01 [SUITE=remote_jwks] [TEST=HTTPRouteMatching]
	@$(PYTHON) -m sandbox conformance $(if $(SUITE),--suite $(SUITE)) $(if $(TEST),--test '$(TEST)')

test: export TESTS_END := $(shell expr $$(date +%s) + 60 \* $(TEST_MINUTES))
test: test-fast test-browser ## everything: the fast tests, the pages in a browser, the runbook end to end on the sandbox [TEST_MINUTES=65]
	@$(PYTHON) -m sandbox build
	@$(PYTHON) -m pytest -q -m sandbox --reruns 1 --durations 20 $(WORKERS)

test-evaluator: env ## the evaluator of policies against the real Envoy: 3,000 random pairs of policy and request, after make run
	@EVALUATOR_ROUNDS=15 $(PYTHON) -m pytest -q -m sandbox tests/e2e/test_evaluator.py

test-fast: env ## the tests that need no sandbox
	@$(PYTHON) -m pytest -q -m "not sandbox and not browser" $(WORKERS)

test-browser: env browser ## the pages in a headless Chromium (Debian's, installed if missing); screenshots in outputs/screenshots
	@$(PYTHON) -m pytest -q -m browser

bench: env ## how long runs take on the sandbox and what they cost: medians of ROUNDS=3, from nothing and again
	@$(PYTHON) tools/bench.py --rounds $(or $(ROUNDS),3)

check: env ## style (ruff), types (mypy), plain English, and no outputs in the notebooks
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(PYTHON) tools/plain_english.py
	@$(PYTHON) -m nbstripout --verify notebooks/*.ipynb notebooks/labs/*.ipynb

lock: env ## pin pyproject.toml's dependencies again, with hashes
	@.venv/bin/uv pip compile -q --universal --all-extras --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements.lock
