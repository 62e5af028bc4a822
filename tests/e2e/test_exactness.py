# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Logits of executables are those of the reference interpreter, bit for bit: on
every ISA level, for any number of threads, however the prompt is cut."""

import subprocess

import numpy as np
import pytest

from checkpoints import BIN, SHAPES, compile_model, logits, make, prompt, run

MODELS = ["bitnet-odd", "bitnet-head80", "bitnet-divide", "bitnet-8to1-untied", "bitnet-online-odd", "bitnet-head128",
          "llama-head256", "llama-online"]
TARGETS = ["x86-64-v2", "x86-64-v3", "x86-64-v3+avxvnni", "x86-64-v4", "x86-64-v4+avx512vnni"]
LENGTH = 83  # full and partial blocks of keys, more than one chunk of 64
CUTS = [(threads, chunk) for threads in (1, 2, 3, 8) for chunk in (1, 7, 64, LENGTH)]


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    """A model, tokens and what the interpreter makes of them."""
    shape = SHAPES[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    model = make(directory / "model", shape)
    tokens = prompt(shape, LENGTH)
    expected = directory / "expected.npy"
    run(BIN / "tercet-reference", "--tokens=" + ",".join(map(str, tokens)), f"--logits={expected}", model)
    return model, tokens, np.load(expected)


def skip_where_missing(program):
    """The executable itself says what this CPU lacks."""
    result = subprocess.run([program, "--info"], text=True, capture_output=True)
    if result.returncode == 1 and "this CPU" in result.stderr:
        pytest.skip(result.stderr.strip())


def assert_same_bits(got, expected):
    """Also of zeros, whose sign == would not see."""
    assert got.shape == expected.shape
    different = np.argwhere(got.view(np.uint32) != expected.view(np.uint32))
    assert not len(different), f"{len(different)} logits differ, first (token, id) {different[0]}"


@pytest.mark.parametrize("target", TARGETS)
def test_same_bits(tmp_path, case, target):
    model, tokens, expected = case
    program = compile_model(model, tmp_path / "program", f"--target={target}")
    skip_where_missing(program)
    for threads, chunk in CUTS:
        got = logits(program, tokens, "--threads", threads, "--chunk", chunk)
        assert_same_bits(got, expected)


def test_verify_names_the_first_difference(tmp_path):
    """An executable of other weights."""
    shape = SHAPES["bitnet-odd"]
    model = make(tmp_path / "model", shape)
    program = compile_model(make(tmp_path / "other", shape, seed=1), tmp_path / "program")
    result = subprocess.run([BIN / "tercet", "verify", model, program], text=True, capture_output=True)
    assert result.returncode == 1
    assert "logits differ from token 0, id " in result.stdout
