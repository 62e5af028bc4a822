# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The bundled model on a novel that it never saw (tests/models/austen/README.md)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

TESTS = Path(__file__).resolve().parent.parent
MODEL = TESTS / "models" / "austen"
TERCET = Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
REFERENCE = TESTS / "e2e" / "perplexity_reference.py"
BZIP2 = 2.16  # bits per byte that `bzip2 -9` needs for this text
PREFIX = 100_000  # bytes that PyTorch reads within a minute


@pytest.fixture(scope="module")
def persuasion(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "persuasion.txt"
    corpus = subprocess.run([sys.executable, TESTS / "models" / "corpus.py", "persuasion", path],
                            text=True, capture_output=True)
    if "apt-get install" in corpus.stderr:
        pytest.skip(corpus.stderr.strip())
    assert corpus.returncode == 0, corpus.stderr
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "austen"
    subprocess.run([TERCET, "compile", MODEL, "-o", path], check=True)
    return path


def measure(*command):
    return json.loads(subprocess.run([*map(str, command), "--json"], check=True, text=True, stdout=subprocess.PIPE,
                                     timeout=600).stdout)


def test_predicts_better_than_bzip2(program, persuasion):
    got = measure(program, "--perplexity", persuasion)
    print(f"\nthe whole of Persuasion: {got}")
    assert got["bytes"] == persuasion.stat().st_size > 400_000
    assert got["bits_per_byte"] < BZIP2


def test_agrees_with_pytorch(tmp_path, program, persuasion):
    prefix = tmp_path / "prefix.txt"
    prefix.write_bytes(persuasion.read_bytes()[:PREFIX])
    ours = measure(program, "--perplexity", prefix)
    theirs = measure(sys.executable, REFERENCE, MODEL, prefix)
    print(f"\nperplexity of {PREFIX} bytes: {ours['perplexity']:.5f}, in PyTorch {theirs['perplexity']:.5f}")
    assert (ours["tokens"], ours["bytes"]) == (theirs["tokens"], theirs["bytes"])
    assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=5e-4)
