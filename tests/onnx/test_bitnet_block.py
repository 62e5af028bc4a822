# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A transformer block of BitNet, exported from transformers: seven BitLinears, and
the result of onnxruntime."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from isa_levels import run_at_levels

pytest.importorskip("transformers")

TERCET = Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
EXPORT = Path(__file__).parents[1] / "models" / "bitnet_block" / "export.py"


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("blocks")
    run(sys.executable, EXPORT, directory)
    return directory


@pytest.mark.parametrize("exporter", ("legacy", "dynamo"))
def test_block(exporter, blocks):
    path = blocks / f"block.{exporter}.onnx"
    program = path.with_suffix("")
    log = run(TERCET, "compile", path, "--explain", "-o", program).stderr
    assert log.count("recognised BitLinear") == 7 and "not recognised" not in log

    session = ort.InferenceSession(path)
    for tokens in (2, 17):
        x = np.random.default_rng(tokens).standard_normal((1, tokens, 256), np.float32)
        [expected] = session.run(None, {"hidden": x})
        np.save(blocks / "x.npy", x)
        run(program, "--input", f"hidden={blocks}/x.npy", "--output", f"result={blocks}/y.npy")
        actual = np.load(blocks / "y.npy")
        assert actual.shape == expected.shape
        difference = np.abs(actual - expected) / np.abs(expected).max()
        assert np.median(difference) < 1e-4 and difference.max() < 0.02


def test_bits_of_levels(blocks, tmp_path):
    x = np.random.default_rng(5).standard_normal((1, 5, 256), np.float32)
    results = run_at_levels(blocks / "block.legacy.onnx", {"hidden": x}, "result", tmp_path)
    assert len(results) >= 2 and len(set(results.values())) == 1, list(results)
