# make demo   sets everything up and renders a built-in animated figure from a prompt
# make test   sets everything up and runs the whole test suite
# make soak   runs the long tests, then minutes of random faults (minutes=10 seed=0): every frame must be that of an undisturbed run
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test types suite soak
minutes := 10
seed := 0
demo: $(BIN)/.ready
	$(BIN)/python farm/submit.py scene=dancer prompt="a golden statue in a snowy forest" output=renders/demo output.compare=true

test: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory --jobs 2 types suite  # tests of Ray wait much: the type checker has room beside them

types: $(BIN)/.ready
	$(BIN)/mypy

suite: $(BIN)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup

soak: $(BIN)/.ready
	$(BIN)/python -m pytest -m long
	$(BIN)/python tests/farm/soak.py minutes=$(minutes) seed=$(seed)

# Torch goes first and by its range: without one, the newest build drags in gigabytes that a machine without a GPU cannot use.
$(BIN)/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "torch>=2.7,<2.14"
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
