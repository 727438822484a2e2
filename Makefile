# make demo   train a small trimap network, score it, apply it to a photograph: five to ten minutes
# make test   every check there is; the last line counts them
# make lab    open the workbook in JupyterLab
# make clean  remove what was built; data/, outputs/ and the environment stay
#
# PYTHON=python3.12   the interpreter a new environment is made with
# VENV=~/envs/seglab  the environment to use; made and filled if it is missing
# LAB_ARGS=...        more arguments for `jupyter lab`

PYTHON ?= python3
VENV ?= .venv
LAB_ARGS ?=

BIN = $(VENV)/bin
# one stamp for each checkout: an environment shared by two checkouts imports seglab from one of them only
STAMP = $(VENV)/.seglab-$(shell pwd | cksum | cut -d ' ' -f 1)

# albumentations asks the internet for its newest version whenever it is imported
export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: help install demo test lab readme clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,8p'

install: $(STAMP)

$(STAMP): settings.ini setup.py .ci/install
	@.ci/install "$(PYTHON)" "$(VENV)"
	@rm -f "$(VENV)"/.seglab-* && touch "$@"

demo: $(STAMP)
	@echo "==> demo: train, score and apply a small trimap network on this machine's CPU"
	@HF_HUB_OFFLINE=1 $(BIN)/seglab run trimap_train -f nbs/experiments/configs/demo.yaml --label demo
	@echo "==> the executed notebook is named above; 'make lab' shows it (folder outputs/)"

test: $(STAMP)
	@$(BIN)/python .ci/check.py

lab: $(STAMP)
	@echo "==> JupyterLab: start with nbs/index.ipynb; Ctrl-C ends it"
	@$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/nbs/index.ipynb \
		$(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

readme: $(STAMP)
	@echo "==> readme: run nbs/index.ipynb, and render it"
	@$(BIN)/jupyter execute --inplace nbs/index.ipynb
	@$(BIN)/nbdev_clean --fname nbs/index.ipynb
	@$(BIN)/python .ci/readme.py
	@echo "==> made README.md and nbs/index_files/"

clean:
	@echo "==> removing build products and caches"
	@rm -rf build dist *.egg-info _proc _docs .pytest_cache .ruff_cache "$(VENV)"/.seglab-*
	@find . -path "./$(VENV)" -prune -o -path ./data -prune -o -path ./outputs -prune -o \
		\( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
	@echo "==> clean; data/, outputs/ and $(VENV) are as they were"
