# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""--head=screened: whatever the bf16 head says, by reading less of it."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/models/austen"
TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
sys.path.insert(0, str(ROOT / "tests/frontends"))
from checkpoint import f32, llama_config, tensors, write  # noqa: E402

SAMPLINGS = {
    "greedy": ("--temp", 0),
    "cold": ("--temp", 0.3, "--top-p", 1),
    "warm": ("--temp", 1, "--top-p", 1),
    "hot": ("--temp", 1.5, "--top-p", 1),
    "top-k": ("--temp", 1, "--top-k", 40, "--top-p", 1),
    "top-p": ("--temp", 0.7, "--top-p", 0.9),
    "high top-p": ("--temp", 1.2, "--top-p", 0.99),
    "both": ("--temp", 0.9, "--top-k", 50, "--top-p", 0.8),
}


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compile_head(model, output, head):
    run(TERCET, "compile", model, "-o", output, f"--head={head}")
    return output


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return [compile_head(MODEL, directory / head, head) for head in ("bf16", "screened")]


def logits(program, directory, tokens, *options):
    path = directory / "logits.npy"
    run(program, "--tokens", ",".join(map(str, tokens)), "--logits", path, *options)
    return np.load(path).view(np.uint32)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_same_tokens(programs, sampling):
    """Hundreds of tokens: each choice depends on all before it."""
    seen = set()
    for seed, prompt in enumerate(("It was a truth", "She", "The weather in Bath")):
        command = ("-p", prompt, "-n", 300, *SAMPLINGS[sampling], "--seed", seed, "--json")
        exact, *others = [json.loads(run(program, *command, "--threads", threads))["tokens"]
                          for program in programs for threads in (1, 2)]
        assert len(exact) > 100
        assert all(tokens == exact for tokens in others)
        seen.add(tuple(exact))
    assert len(seen) == 3


def test_same_logits(programs, tmp_path):
    exact, screened = programs
    tokens = [i * 37 % 2000 for i in range(70)]
    expected = logits(exact, tmp_path, tokens)
    for options in ((), ("--threads", 2, "--chunk", 1), ("--threads", 1, "--chunk", 33)):
        assert (logits(screened, tmp_path, tokens, *options) == expected).all()


def test_same_perplexity(programs, tmp_path):
    text = tmp_path / "text"
    text.write_text("It is a truth universally acknowledged, that a single man in possession of a good fortune.\n" * 20)
    assert run(programs[0], "--perplexity", text, "--json") == run(programs[1], "--perplexity", text, "--json")


def test_what_it_says_of_itself(programs):
    exact, screened = [json.loads(run(program, "--info")) for program in programs]
    rows, columns = 2048, 256
    assert screened["head"] == "screened"
    assert exact["head_bytes"] == rows * columns * 2
    assert screened["head_bytes"] == rows * columns * 8.25 / 8 + rows * 4
    # The rows that are tied to the embedding are there once.
    assert screened["weights_bytes"] - exact["weights_bytes"] == screened["head_bytes"]

    bench = json.loads(run(programs[1], "--bench", "--prompt", 16, "--gen", 64, "--json", "--threads", 1))["decode"][0]
    groups = bench["exact_groups_per_token"]
    assert 0 < groups < 16 and bench["full_heads"] == 0
    read = screened["ternary_bytes"] + screened["head_bytes"] + groups * 16 * columns * 2
    assert abs(bench["bytes_per_token"] - read - screened["kv_bytes_per_token"] * 32.5) < 16 * columns * 2 / 100 + 1
    assert "exact_groups_per_token" not in run(programs[0], "--bench", "--prompt", 1, "--gen", 1, "--json")


def test_verify(programs):
    """Every phase and every kernel against the model's own head."""
    checks = json.loads(run(TERCET, "verify", MODEL, programs[1], "--head=screened", "--json"))["checks"]
    checks = {check["name"]: check for check in checks}
    assert checks["artifact"]["detail"] == "identical logits"
    assert checks["screen"]["passed"] and checks["kernels"]["passed"]
    # An executable with another head is told from it.
    done = subprocess.run([TERCET, "verify", MODEL, programs[0], "--head=screened"], capture_output=True, text=True)
    assert done.returncode == 1 and "compile it again" in done.stderr


def test_float_head(tmp_path):
    """A head that is not bf16 has no packed form: its rows are read where they are."""
    model = write(tmp_path / "model", tensors(norms=(), head=True, encode=f32), llama_config())
    exact, screened = [compile_head(model, tmp_path / head, head) for head in ("bf16", "screened")]
    vocab = json.loads(run(exact, "--info"))["vocab_size"]
    tokens = [i * 7 % vocab for i in range(20)]
    assert (logits(screened, tmp_path, tokens) == logits(exact, tmp_path, tokens)).all()
    for options in (("--temp", 0), ("--temp", 3), ("--temp", 3, "--top-p", 0.8), ("--temp", 3, "--top-k", 9)):
        command = ("--tokens", "1,2", "-n", 40, "--json", *options)
        assert json.loads(run(exact, *command))["tokens"] == json.loads(run(screened, *command))["tokens"]
