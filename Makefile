# The workbook's commands. Each one makes .venv first, where it is missing or out of date.
PY := .venv/bin/python
NOTEBOOK := work/00_start_here.ipynb
OUT := class
PROXY := .venv/node/node_modules/.bin
LITERT_JS := @litertjs/core@2.5.3
ORT_WEB := onnxruntime-web@1.30.0
PORT ?= 8048
CODE := helpers tools tests notebooks conftest.py
ROOT_FLAG := $(shell [ "$$(id -u)" != 0 ] || echo --allow-root)

# What a reader's shell sets for other work stays outside: another kernel, another backend for
# pictures or for Keras, another project's packages, and the flags that drop assertions or print
# warnings into the lessons.
export JUPYTER_PREFER_ENV_PATH := 1
export KERAS_BACKEND := tensorflow
unexport JUPYTER_PATH MPLBACKEND PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONWARNINGS

help: ## list the commands (this)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

lab: environment ## open JupyterLab on your copy of the lessons (LAB_FLAGS="--no-browser --port 8899")
	$(PY) tools/lab.py $(ROOT_FLAG) $(LAB_FLAGS) $(NOTEBOOK)

test: everything ## run the unit tests and every notebook (TEST_FLAGS="-k 21" for a part)
	$(PY) -m pytest $(TEST_FLAGS)

notebooks: everything ## run the lessons and store their outputs (NB=21 for one, NB="21 22" for two)
	$(PY) tools/execute_notebooks.py $(NB)

site: pages ## build the course as a static site in site/, from the stored outputs
	$(PY) tools/build_site.py

test-breaks: everything ## break helpers on purpose and see that each lesson notices
	$(PY) -m pytest -m breaks tests

demo: everything web ## a page that runs a network, on this machine alone (PORT=8048; 0 takes a free one)
	$(PY) tools/demo.py --port $(PORT)

test-browser: pages web ## pages and lessons in Chromium, attacks on the grader (LESSONS="12 21" or all)
	$(PY) -m pytest -m extra -rs --ignore=tests/test_hub.py tests

test-hub: proxy ## a class on a JupyterHub: fifteen at work, thirty present (16 GB of memory)
	$(PY) -m pytest -m extra -rsP -n 0 tests/test_hub.py

hub: proxy ## try a JupyterHub for a class on this machine (HUB_PORT=8000 HUB_PASSWORD=...)
	PATH="$(CURDIR)/.venv/bin:$(CURDIR)/$(PROXY):$$PATH" $(PY) -m jupyterhub -f docs/jupyterhub_config.py

handout: environment ## lessons for a class, without outputs (NB="12 21" or NB=2 for a part, OUT=folder)
	$(PY) tools/handout.py $(NB) --out $(OUT)

grade: environment ## mark submissions outside of their own code (NB=21 SUBMISSIONS=folder OUT=grades)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) tools/grade.py $(NB) $(SUBMISSIONS) --out $(OUT)

mutants: environment ## break helpers at random, see which tests notice (MUTANTS="--help" says more)
	$(PY) tools/mutants.py $(MUTANTS)

zoo: environment ## train the shipped models again, from the recipes in helpers/zoo.py
	$(PY) -m helpers.zoo $(ZOO_FLAGS)

lint: environment ## check the code's style and layout, in files and notebooks
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)

format: environment ## lay the code out as `make lint` wants it
	$(PY) -m ruff check --fix $(CODE)
	$(PY) -m ruff format $(CODE)

lock: ## compile requirements.txt from pyproject.toml (LOCK_FLAGS=--upgrade for newer versions)
	@sh setup.sh tools
	$(PY) -m uv pip compile --quiet --universal --all-extras pyproject.toml -o requirements.txt $(LOCK_FLAGS)

clean: ## remove .venv and what the tools leave behind
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
	find helpers tools tests notebooks -name __pycache__ -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +

environment:
	@sh setup.sh

everything: # the optional packages as well
	@sh setup.sh all

pages: # and those of the site
	@sh setup.sh pages

proxy: pages # and JupyterHub's proxy, which comes from npm, where there is one
	@[ -x $(PROXY)/configurable-http-proxy ] || ! command -v npm >/dev/null || \
		npm install --silent --no-fund --no-audit --prefix .venv/node configurable-http-proxy@5

web: # the libraries of the page, which come from npm, where there is one
	@{ cd .venv/node/node_modules/@litertjs/core && cd ../../onnxruntime-web; } 2>/dev/null || \
		! command -v npm >/dev/null || \
		npm install --silent --no-fund --no-audit --prefix .venv/node $(LITERT_JS) $(ORT_WEB) || \
		echo "the page's libraries did not arrive from npm: is there a network?"

.PHONY: help lab test notebooks site demo test-breaks test-browser test-hub hub handout grade mutants zoo lint format lock clean \
	environment everything pages proxy web
