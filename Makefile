# make setup | demo | test | chaos | fuzz | lint | format | bench | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := out/demo
# The nearest masks even where the small built-in CLIP is unsure; without it a search shows what stands out.
QUERIES := --text "a motorcycle" --text "a cup" --text "a building" --text "a person" --text "a tower" --text "a helmet" --min-calibrated 0

CHROMIUM := /usr/bin/chromium

.PHONY: setup demo test chromium chaos fuzz lint format bench clean

setup: $(STAMP)

# Torch and torchvision come from the ordinary registry: the CPU-only torch has no matching torchvision.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed; name one by PYTHON=python3.x" if sys.version_info < (3, 10) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# An oracle of the tests, for its brush format alone: with its dependencies it would replace opencv-python.
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt label-studio-sdk
	@touch $(STAMP)

demo: setup
	@rm -rf $(DEMO)
	$(BIN)/python jobs/segment_corpus.py --input demo: --output $(DEMO)/corpus
	$(BIN)/python jobs/search_masks.py --corpus $(DEMO)/corpus $(QUERIES) --top-k 5 --output $(DEMO)/hits.parquet --gallery $(DEMO)/gallery.html
	$(BIN)/python jobs/search_masks.py --corpus $(DEMO)/corpus $(QUERIES) --top-k 5 --gallery $(DEMO)/contact-sheet.png
	$(BIN)/python jobs/verify_corpus.py --corpus $(DEMO)/corpus
	@echo
	@echo "Look at   $(DEMO)/gallery.html (in a browser) or $(DEMO)/contact-sheet.png"
	@echo "Ask more  $(BIN)/python jobs/search_masks.py --corpus $(DEMO)/corpus --text 'a bicycle' --gallery $(DEMO)/bicycle.html"

# Two at a time, then those that measure time.
test: setup chromium
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not alone"
	$(BIN)/python -m pytest -m alone

# 200 seeded fault schedules on a cluster of several nodes: hours. One of them again: python -m tests.chaos --seed N
chaos: setup
	$(BIN)/python -m tests.chaos --schedules 200

# Ten minutes of damaged images, archives, tables, filters and run-lengths; each finding by target, seed and case.
fuzz: setup
	cd tests && PYTHONPATH=..:. ../$(BIN)/python -m fuzz --minutes 10

# The page's tests drive Debian's Chromium; where it cannot be installed they skip and say so.
chromium:
	@test -x $(CHROMIUM) || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } || true

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The figures in the README: both sides in one run, results by machine in benchmarks/results/.
bench: setup
	$(BIN)/python benchmarks/stages.py --models builtin s x --plot docs/images/stages.png > benchmarks/results/stages-$$(uname -m)-$$(nproc)cpu.json
	for imgsz in 640 1024; do $(BIN)/python benchmarks/mask_stage.py --imgsz $$imgsz --rounds 7; done | tee benchmarks/results/mask_stage-$$(uname -m)-$$(nproc)cpu.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ray_share.py --images 1024 --unit-size 128 | tee benchmarks/results/ray_share-$$(uname -m)-$$(nproc)cpu.json

clean:
	rm -rf $(VENV) out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
