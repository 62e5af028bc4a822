# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""--head: the quantised heads mean one thing on every ISA level, and cost little."""

import json
import subprocess

import numpy as np
import pytest

from checkpoints import BIN, SHAPES, compile_model, logits, make, prompt
from test_exactness import TARGETS
from test_perplexity import MODEL, persuasion  # noqa: F401

# Bits a weight; cost in perplexity of the whole of Persuasion, and what it may be (docs/decisions/0007).
HEADS = {"i8": (8.25, 0.02), "q6": (6.25, 0.05), "q4": (4.5, 0.5)}


def verify(*arguments):
    done = subprocess.run([BIN / "tercet", "verify", *map(str, arguments), "--json"], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.mark.parametrize("shape", ["bitnet-odd", "bitnet-8to1-untied", "llama-head256"])
@pytest.mark.parametrize("head", HEADS)
def test_same_bits(tmp_path, shape, head):
    """Every phase and every kernel as in the interpreter; every level and chunk the same logits."""
    model = make(tmp_path / "model", SHAPES[shape])
    tokens = prompt(SHAPES[shape], 40)
    expected = None
    for target in TARGETS:
        program = compile_model(model, tmp_path / "program", f"--target={target}", f"--head={head}")
        started = subprocess.run([program, "--info"], text=True, capture_output=True)
        if "this CPU" in started.stderr:
            continue
        if expected is None:
            checks = verify(model, program, f"--target={target}", f"--head={head}",
                            "--tokens=" + ",".join(map(str, tokens)))
            assert checks["artifact"]["detail"] == "identical logits"
            expected = logits(program, tokens)
        for chunk in (1, 7, 40):
            got = logits(program, tokens, "--threads", 2, "--chunk", chunk)
            assert np.array_equal(got.view(np.uint32), expected.view(np.uint32)), (target, chunk)
    exact = logits(compile_model(model, tmp_path / "exact"), tokens)
    error = np.abs(expected - exact).max() / np.abs(exact).max()
    assert 0 < error < {"i8": 0.02, "q6": 0.06, "q4": 0.25}[head], error


@pytest.mark.parametrize("shape", ["bitnet-odd", "bitnet-8to1-untied", "llama-head256"])
def test_screened(tmp_path, shape):
    """The logits and the tokens of the bf16 head, on every level."""
    model = make(tmp_path / "model", SHAPES[shape])
    tokens = prompt(SHAPES[shape], 40)
    exact = compile_model(model, tmp_path / "exact")
    sampling = ("--tokens", ",".join(map(str, tokens)), "-n", 50, "--temp", 2, "--top-p", 0.9, "--json")
    expected, answer = logits(exact, tokens), json.loads(subprocess.check_output([exact, *map(str, sampling)]))
    for target in TARGETS:
        program = compile_model(model, tmp_path / "program", f"--target={target}", "--head=screened")
        started = subprocess.run([program, "--info"], text=True, capture_output=True)
        if "this CPU" in started.stderr:
            continue
        checks = verify(model, program, f"--target={target}", "--head=screened",
                        "--tokens=" + ",".join(map(str, tokens)))
        assert checks["artifact"]["detail"] == "identical logits"
        for chunk in (1, 7, 40):
            got = logits(program, tokens, "--threads", 2, "--chunk", chunk)
            assert np.array_equal(got.view(np.uint32), expected.view(np.uint32)), (target, chunk)
        got = json.loads(subprocess.check_output([program, *map(str, sampling)]))
        assert got["tokens"] == answer["tokens"]


@pytest.mark.parametrize("head", HEADS)
def test_cost(tmp_path, persuasion, head):  # noqa: F811
    """What verify says it costs is what the two executables measure."""
    bits, most = HEADS[head]
    text = tmp_path / "text"
    text.write_bytes(persuasion.read_bytes()[:100_000])
    detail = verify(MODEL, f"--head={head}", "--tokens=1,2,3", "--perplexity", text)["head"]["detail"]
    print(f"\n{detail}")
    programs = [compile_model(MODEL, tmp_path / name, f"--head={name}") for name in ("bf16", head)]
    exact, rounded = (json.loads(subprocess.run([p, "--perplexity", text, "--json"], check=True, text=True,
                                                stdout=subprocess.PIPE).stdout)["perplexity"] for p in programs)
    assert f"{exact:.4f} with bf16, {rounded:.4f} with {head}" in detail
    assert rounded / exact < 1 + most / 100
    info = json.loads(subprocess.check_output([programs[1], "--info"]))
    assert info["head"] == head
    assert info["head_bytes"] == 2048 * 256 * bits / 8


def test_refused():
    done = subprocess.run([BIN / "tercet", "compile", MODEL, "-o", "x", "--head=i7"], text=True, capture_output=True)
    assert done.returncode == 1 and "--head=i7: the value is one of auto, bf16, i8, q6, q4" in done.stderr
