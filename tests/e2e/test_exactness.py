# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Logits of executables are those of the reference interpreter, bit for bit: on
every ISA level, for any number of threads, however the prompt is cut. A CPU
without AVX-VNNI emulates it."""

import shutil
import subprocess

import numpy as np
import pytest

from avxvnni import ROOT, emulated_logits
from checkpoints import BIN, SHAPES, compile_model, logits, make, prompt, run

MODELS = ["bitnet-odd", "bitnet-head80", "bitnet-divide", "bitnet-8to1-untied", "bitnet-online-odd", "bitnet-head128",
          "llama-head256", "llama-online"]
BUNDLED = ROOT / "tests/models/austen"
TARGETS = ["x86-64-v2", "x86-64-v3", "x86-64-v3+avxvnni", "x86-64-v4", "x86-64-v4+avx512vnni",
           "x86-64-v4+avx512vnni+avx512vbmi+amxint8"]
LENGTH = 83  # full and partial blocks of keys, more than one chunk of 64
EMULATED_LENGTH = 20
CUTS = [(threads, chunk) for threads in (1, 2, 3, 8) for chunk in (1, 7, 64, LENGTH)]


def reference(model, tokens, directory, *options):
    """What the interpreter makes of the tokens."""
    path = directory / "expected.npy"
    run(BIN / "tercet-reference", "--tokens=" + ",".join(map(str, tokens)), f"--logits={path}", model, *options)
    return np.load(path)


def make_case(name, tmp_path_factory, *options):
    directory = tmp_path_factory.mktemp(name)
    model = make(directory / "model", SHAPES[name])
    tokens = prompt(SHAPES[name], LENGTH)
    return model, tokens, reference(model, tokens, directory, *options)


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    return make_case(request.param, tmp_path_factory)


# head_dim 80, 12, 22 (no multiple of 4) and 128; 1, 3 and 4 query heads a KV head.
@pytest.fixture(scope="module", params=["bitnet-head80", "bitnet-odd", "bitnet-online-odd", "bitnet-head128"])
def small_kv_case(request, kv, tmp_path_factory):
    return make_case(request.param, tmp_path_factory, f"--kv={kv}")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    tokens = [100 * i + 7 for i in range(8)]
    return BUNDLED, tokens, reference(BUNDLED, tokens, tmp_path_factory.mktemp("bundled"))


def assert_same_bits(got, expected):
    """Also of zeros, whose sign == would not see."""
    assert got.shape == expected.shape
    different = np.argwhere(got.view(np.uint32) != expected.view(np.uint32))
    assert not len(different), f"{len(different)} logits differ, first (token, id) {different[0]}"


def assert_same_logits(directory, case, target, cuts, *options):
    model, tokens, expected = case
    program = compile_model(model, directory / "program", f"--target={target}", *options)
    # The executable itself says what this CPU lacks.
    started = subprocess.run([program, "--info"], text=True, capture_output=True)
    if "needs avxvnni;" in started.stderr:  # Slow, and the first logits do not know what follows.
        got = emulated_logits(model, directory, target, tokens[:EMULATED_LENGTH], *options)
        return assert_same_bits(got, expected[:EMULATED_LENGTH])
    if started.returncode == 1 and "this CPU" in started.stderr:
        pytest.skip(started.stderr.strip())
    for threads, chunk in cuts:
        assert_same_bits(logits(program, tokens, "--threads", threads, "--chunk", chunk), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_same_bits(tmp_path, case, target):
    assert_same_logits(tmp_path, case, target, CUTS)


def test_same_bits_on_arm(tmp_path, case):
    """Without dotprod: workers have ranges of tiles, of strips, and of both."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed")
    model, tokens, expected = case
    program = compile_model(model, tmp_path / "program", "--target=aarch64")
    for threads, chunk in [(1, LENGTH), (3, 7)]:
        run("qemu-aarch64", "-cpu", "cortex-a72", program, "--tokens", ",".join(map(str, tokens)), "--logits",
            tmp_path / "logits.npy", "--threads", threads, "--chunk", chunk)
        assert_same_bits(np.load(tmp_path / "logits.npy"), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_same_bits_of_the_bundled_model(tmp_path, bundled, target):
    assert_same_logits(tmp_path, bundled, target, [(1, 1), (2, 8)])


@pytest.mark.parametrize("packing", ["t5", "t3", "l3"])
@pytest.mark.parametrize("target", [*TARGETS, "x86-64-v4+avx512vnni+avx512vbmi"])
def test_same_bits_from_packing(tmp_path, bundled, packing, target):
    if packing == "l3" and target.endswith("+avxvnni"):
        pytest.skip("l3 has no dot products that AVX-VNNI would do")
    assert_same_logits(tmp_path, bundled, target, [(1, 1), (2, 64)], f"--packing={packing}")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kv", ["bf16", "int8"], scope="module")
def test_same_bits_with_a_small_kv_cache(tmp_path, small_kv_case, kv, target):
    assert_same_logits(tmp_path, small_kv_case, target, [(1, 1), (2, 7), (3, LENGTH)], f"--kv={kv}")


@pytest.mark.parametrize("packing", ["i2", "t3", "l3"])
def test_verify_compares_every_kernel(tmp_path, packing):
    """Those of l3 make several calls of the thread pool."""
    options = [f"--packing={packing}", "--target=x86-64-v3"]
    program = compile_model(BUNDLED, tmp_path / "program", *options)
    done = subprocess.run([BIN / "tercet", "verify", BUNDLED, program, *options], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_verify_names_the_first_difference(tmp_path):
    """An executable of other weights."""
    shape = SHAPES["bitnet-odd"]
    model = make(tmp_path / "model", shape)
    program = compile_model(make(tmp_path / "other", shape, seed=1), tmp_path / "program")
    result = subprocess.run([BIN / "tercet", "verify", model, program], text=True, capture_output=True)
    assert result.returncode == 1
    assert "logits differ from token 0, id " in result.stdout
