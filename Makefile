# Two commands for a newcomer: `make book` and `make test`. Everything else is listed by `make help`.
PYTHON  ?= python3
PORT    ?= 8000
CHAPTER ?=
PROFILE ?= full
DATA    ?=

BIN     := .venv/bin
STAMP   := .venv/installed-$(shell cat pyproject.toml requirements.txt | cksum | cut -d' ' -f1)
SITE    := _build/html/index.html
INPUTS  := _config.yml _toc.yml $(shell find book notebooks src/latentbook -type f \
             ! -path '*/__pycache__/*' ! -path '*/.ipynb_checkpoints/*' ! -name '.*' 2>/dev/null)
PYTEST  := $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install book test execute serve format numbers sync lint clean

help: ## this list
	@echo "usage: make TARGET [CHAPTER=01] [PROFILE=smoke|read|full] [DATA=FOLDER] [PORT=8000]"
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1\t\2/' | expand -t 12

install: $(STAMP) ## make .venv with all that the book and the tests need

$(STAMP): | pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; name one with make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing the library, the book's builder and the tests (PyTorch is large: some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@rm -f .venv/installed-* && touch $@
	@echo "Installed."

book: $(SITE) ## build the site in _build/html (installs what is needed first)
	@echo "The book is built. Open $(CURDIR)/$(SITE), or run \`make serve\`."

$(SITE): $(STAMP) $(INPUTS)
	@echo "Building the book ..."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-book build -W -n --keep-going -q . || { rm -f $@; exit 1; }
	@touch $@

test: lint book ## lint, then all tests: units, notebooks (smoke), the built site; prints the coverage
	@rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=term tests/unit tests/notebooks
	$(PYTEST) tests/site

execute: $(STAMP) ## run all notebooks, or CHAPTER=01, and keep their outputs
	$(BIN)/python -m latentbook execute $(CHAPTER) --profile $(PROFILE) $(if $(DATA),--data "$(DATA)")

serve: book ## build, then serve the site on PORT (8000)
	@echo "Serving http://localhost:$(PORT) ; Ctrl-C ends it."
	@$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 $(PORT)

format: $(STAMP) ## lay out the code as ruff does
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m latentbook tidy

numbers: $(STAMP) ## write the measured numbers into the texts, then into the notebooks
	$(BIN)/python -m latentbook numbers
	$(BIN)/python -m latentbook sync

sync: $(STAMP) ## copy edits of the text into the executed notebooks, keeping their outputs
	$(BIN)/python -m latentbook sync $(CHAPTER)

lint: $(STAMP) ## look over the code without changing it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m latentbook tidy --check

clean: ## remove what was built, but not .venv
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
