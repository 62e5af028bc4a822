# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Ternary networks that tests/models/fashion_mnist trains: the same classes as
onnxruntime's for all test images."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from isa_levels import run_at_levels

pytest.importorskip("torch")

TERCET = Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
MODELS = Path(__file__).parents[1] / "models" / "fashion_mnist"
sys.path.insert(0, str(MODELS))
train = pytest.importorskip("train")
if not train.DATA.exists():
    pytest.skip("needs dataset-fashion-mnist", allow_module_level=True)

LAYERS = {
    "mlp": ["BitLinear 784x512", "BitLinear 512x512", "BitLinear 512x10"],
    "cnn": ["ternary convolution 9x16", "ternary convolution 144x32", "ternary convolution 288x64",
            "BitLinear 1024x10"],
}


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("networks")
    run(sys.executable, MODELS / "train.py", directory, "--epochs", "1", "--images", "10000")
    return directory


def predict_nearby(path, image, count=100):
    """The classes that onnxruntime itself gives an image whose pixels move by one unit in the last place, unoptimised
    or not: several, if an activation lies on the border between two codes."""
    rng = np.random.default_rng(0)
    towards = np.where(rng.random((count, *image.shape)) < 0.5, -2, 2).astype(np.float32)
    moved = np.nextafter(image[None], towards)
    classes = set()
    for level in (ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        session = ort.InferenceSession(path, options)
        classes |= {int(session.run(None, {"image": one[None]})[0].argmax()) for one in [image, *moved]}
    return classes


@pytest.mark.parametrize("exporter", ("legacy", "dynamo"))
@pytest.mark.parametrize("name", LAYERS)
def test_classes(name, exporter, networks, tmp_path):
    path = networks / f"{name}.{exporter}.onnx"
    program = tmp_path / name
    log = run(TERCET, "compile", path, "--explain", "-o", program).stderr
    said = [line for line in log.splitlines() if "recognised" in line]
    assert [line.split(",")[0].removeprefix("remark: recognised ") for line in said] == LAYERS[name]

    images = train.normalise(train.read_images("t10k"))
    session = ort.InferenceSession(path)
    expected = np.concatenate([session.run(None, {"image": part})[0] for part in np.split(images, 10)])
    np.save(tmp_path / "images.npy", images)
    run(program, "--input", f"image={tmp_path}/images.npy", "--output", f"logits={tmp_path}/logits.npy")
    actual = np.load(tmp_path / "logits.npy")

    differ = np.flatnonzero(actual.argmax(-1) != expected.argmax(-1))
    print(f"{len(differ)} images of another class: {differ}")
    assert len(differ) <= 2
    for i in differ:
        assert actual[i].argmax() in predict_nearby(path, images[i]), i


@pytest.mark.parametrize("name", LAYERS)
def test_bits_of_levels(name, networks, tmp_path):
    images = train.normalise(train.read_images("t10k"))[:100]
    results = run_at_levels(networks / f"{name}.legacy.onnx", {"image": images}, "logits", tmp_path)
    assert len(results) >= 2 and len(set(results.values())) == 1, list(results)
