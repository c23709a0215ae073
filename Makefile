# Two commands for a newcomer: `make book` and `make test`. Everything else is listed by `make help`.
PYTHON  ?= python3
PORT    ?= 8000
CHAPTER ?=
PROFILE ?= full
DATA    ?=

BIN     := .venv/bin
STAMP   := .venv/installed-$(shell { pwd; cat pyproject.toml requirements.txt; } | cksum | cut -d' ' -f1)
SITE    := _build/html/index.html
# Names with spaces are escaped for make.
INPUTS  := _config.yml _toc.yml CHANGELOG.md CITATION.cff pyproject.toml $(shell find book notebooks src/latentbook -type f \
             ! -path '*/__pycache__/*' ! -path '*/.ipynb_checkpoints/*' ! -name '.*' 2>/dev/null | sed 's/ /\\ /g')
# Each worker takes a run of neighbouring tests, which share what their file prepares; who is done takes over from who is not.
PYTEST  := $(BIN)/python -m pytest --dist worksteal
TESTS   := tests/notebooks tests/unit tests/site
PIP     := $(BIN)/python -m pip --disable-pip-version-check
# Of the files of an environment, for `find`: none that venv itself and its pip write.
NOT_OURS := ! -path '.venv/bin/*' $(foreach name,pyvenv.cfg .gitignore lib64 distutils-precedence.pth,! -name '$(name)') \
             $(foreach name,pip pip-* setuptools setuptools-* pkg_resources _distutils_hack __pycache__,! -path '*/site-packages/$(name)/*')
RUNS    := $(shell $(BIN)/python -c 'print("yes")' 2>/dev/null)
WHICH   := import sys; print("Python %d.%d.%d in %s" % (*sys.version_info[:3], sys.base_prefix))
# The torch that is in .venv, if pyproject.toml accepts it: pip would replace it by what the newest torchvision asks for.
KEEP    := import re; from importlib.metadata import version; from pip._vendor.packaging.specifiers import SpecifierSet; \
           wanted = re.search(r"\"torch(?![a-z])([^\"]*)\"", open("pyproject.toml", encoding="utf-8").read())[1]; \
           SpecifierSet(wanted).contains(version("torch"), prereleases=True) and print("torch==" + version("torch"))
# A syntax of addresses, compiled for seconds at every start, that nothing in the configuration of a book asks for.
BUILDER := import sys; sys.modules["rfc3987_syntax"] = None; from jupyter_book.cli.main import main; main()
LISTEN  := import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1])))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install book test coverage colab execute serve pdf format numbers sync lint clean
.PHONY: python-in-use python-does-not-run port-is-free

help: ## this list
	@echo "usage: make TARGET [CHAPTER=01] [PROFILE=smoke|read|full] [DATA=FOLDER] [PORT=8000] [PYTHON=python3]"
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1\t\2/' | expand -t 12

install: $(STAMP) ## make .venv with all that the book and the tests need (about 6 GB)

# A .venv without a whole pip was left half made, by a stop or for want of a Debian package: it is made again if nothing was
# installed into it, else given its pip. Never is one removed that holds something.
$(STAMP): $(if $(RUNS),,python-does-not-run) | python-in-use pyproject.toml requirements.txt
	@if test -e .venv && ! $(PIP) show --quiet pip >/dev/null 2>&1; then \
	  if test -d .venv && ! find -H .venv ! -type d $(NOT_OURS) | grep -q .; then \
	    echo "Removing .venv, which was left half made ..."; rm -rf .venv; \
	  elif ! $(BIN)/python -m ensurepip >/dev/null 2>&1; then \
	    echo "The Python of .venv does not run, or has no pip and cannot get it. To start over: rm -r .venv, then give the command again."; exit 1; \
	  fi; \
	fi
	@test -e .venv || { \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; name one with make PYTHON=..."; exit 1; }; \
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    name=$$("$(PYTHON)" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	    echo "$(PYTHON) cannot make virtual environments, a part of it is missing. On Debian and Ubuntu: apt install python3-venv"; \
	    echo "(or $$name, for a Python that is not the system's own). Then give the command again."; exit 1; }; \
	  echo "Making .venv ..."; "$(PYTHON)" -m venv .venv || { rm -rf .venv; exit 1; }; }
	@$(BIN)/python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("torch"))' || { \
	  echo "PyTorch is not in .venv yet. On Linux its usual build, with CUDA, is about 3 GB to download; .venv grows to about 6 GB."; \
	  echo "README.md tells how to take the much smaller one for the CPU alone. Ctrl-C stops here."; }
	@echo "Installing the library, the book's builder and the tests (some minutes the first time) ..."
	@$(PIP) install --quiet --upgrade pip
	@$(BIN)/python -c '$(KEEP)' > .venv/keep.txt 2>/dev/null || true
	@$(PIP) install --quiet -r requirements.txt $$(test -s .venv/keep.txt && echo -c .venv/keep.txt) || { \
	  echo "Not everything could be installed. Give the command again; if it fails again, start over: rm -r .venv"; exit 1; }
	@rm -f .venv/installed-* && touch $@
	@echo "Installed."

# A Python that is named where another one made .venv would be ignored without a word.
python-in-use:
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
	@used=$$($(BIN)/python -c 'import pip; $(WHICH)' 2>/dev/null) || exit 0; \
	named=$$("$(PYTHON)" -c '$(WHICH)' 2>/dev/null); \
	test "$$used" = "$$named" || { \
	  echo "PYTHON=$(PYTHON) is not used: .venv has $$used and goes on with it."; \
	  echo "To change that: rm -r .venv, then give the command again."; }
else
	@:
endif

book: $(SITE) ## build the site in _build/html (installs what is needed first)
	@echo "The book is built. Open $(CURDIR)/$(SITE), or run \`make serve\`."

$(SITE): $(STAMP) $(INPUTS)
	@echo "Building the book ..."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -c '$(BUILDER)' build -W -n --keep-going -q . || { rm -f $@; exit 1; }
	@touch $@

# More workers than two cores have: half of its time a test of the site waits for a browser, and others go on. What fails
# beside others is run once more alone, on a machine that is not busy: a fault of the book fails there too.
test: lint book ## lint, then all tests: units, notebooks (smoke and read), the built site
	@echo "$(PYTEST) -n 4 $(TESTS)"; $(PYTEST) -n 4 $(TESTS); code=$$?; test $$code = 1 || exit $$code; \
	echo "Once more, alone, what failed beside others:"; \
	$(PYTEST) --last-failed --last-failed-no-failures none $(TESTS)

colab: ## run all notebooks in smoke, or CHAPTER=01, with Colab's versions, in .venv-colab (about 6 GB)
	@"$(PYTHON)" tests/colab/run.py $(CHAPTER)

coverage: $(STAMP) ## run the units and the notebooks, and print which lines of the library they reach
	@rm -f .coverage .coverage.*
	$(PYTEST) -n 2 --cov --cov-report=term tests/unit tests/notebooks

execute: $(STAMP) ## run all notebooks, or CHAPTER=01 and its companion, and keep their outputs
	$(BIN)/python -m latentbook execute $(CHAPTER) --profile $(PROFILE) $(if $(DATA),--data "$(DATA)")

serve: port-is-free book ## build, then serve the site on PORT (8000)
	@echo "Serving http://localhost:$(PORT) ; Ctrl-C ends it."
	@$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 $(PORT)

pdf: book ## build, then print the whole book as one PDF, _build/book.pdf (needs Chromium)
	$(BIN)/python -m latentbook pdf

port-is-free:
	@[ "$(PORT)" -ge 1 ] 2>/dev/null && [ "$(PORT)" -le 65535 ] || { echo "PORT must be a number from 1 to 65535, got $(PORT)"; exit 1; }
	@"$(PYTHON)" -c '$(LISTEN)' "$(PORT)" 2>/dev/null || { \
	  other=$$(($(PORT) < 65535 ? $(PORT) + 1 : 8000)); \
	  echo "Port $(PORT) cannot be used, most likely because something else serves there. Name another: make serve PORT=$$other"; exit 1; }

format: $(STAMP) ## lay out the code as ruff does
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m latentbook tidy

numbers: $(STAMP) ## write the measured numbers into the texts, then into the notebooks
	$(BIN)/python -m latentbook numbers
	$(BIN)/python -m latentbook sync

sync: $(STAMP) ## copy edits of the text into the executed notebooks, keeping their outputs
	$(BIN)/python -m latentbook sync $(CHAPTER)

lint: $(STAMP) ## look over the code without changing it
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m latentbook tidy --check

clean: ## remove what was built, but not .venv
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
