# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Operators of onnxruntime's own domain, which its optimiser and its quantiser write:
the result of onnxruntime."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

TERCET = Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape, np.float32)


def codes(dtype, *shape):
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


def lstm(dtype, directions, zero, per_column=False, direction="forward"):
    hidden, columns = 5, 6
    points = np.full((directions, 4 * hidden) if per_column else directions, zero, dtype)
    scales = np.abs(draw(*points.shape)) / 100
    return (["x", codes(dtype, directions, columns, 4 * hidden), codes(dtype, directions, hidden, 4 * hidden),
             draw(directions, 8 * hidden), None, draw(directions, 1, hidden), draw(directions, 1, hidden), None,
             scales, points, scales * 2, points], draw(7, 1, columns), 3, {"hidden_size": hidden, "direction": direction})


# Inputs, of which "x" is that of the graph; its values; the outputs; attributes.
X = draw(2, 3, 8)
CASES = {
    "Gelu": (["x"], X, 1, {}),
    "BiasGelu": (["x", draw(8)], X, 1, {}),
    "FastGelu": (["x"], X, 1, {}),
    "FastGelu-bias": (["x", draw(8)], X, 1, {}),
    "QuickGelu": (["x"], X, 1, {"alpha": 1.5}),
    "FusedMatMul": (["x", draw(5, 8)], X, 1, {"alpha": 0.25, "transB": 1}),
    "FusedMatMul-left": (["x", draw(2, 3, 5)], X, 1, {"transA": 1}),
    "SkipLayerNormalization": (["x", draw(2, 3, 8), draw(8), draw(8), draw(8)], X, 1, {"epsilon": 1e-3}),
    "SkipLayerNormalization-sum": (["x", draw(2, 3, 8), draw(8)], X, 4, {}),
    "SkipSimplifiedLayerNormalization": (["x", draw(2, 3, 8), draw(8), draw(8)], X, 4, {}),
    "RotaryEmbedding": (["x", np.array([[3, 0, 1], [1, 2, 3]]), draw(9, 2), draw(9, 2)], X, 1, {}),
    "RotaryEmbedding-first": (["x", np.array([4]), draw(9, 2), draw(9, 2)], X, 1, {"interleaved": 1}),
    "RotaryEmbedding-heads": (["x", np.array([[3, 0, 1], [1, 2, 3]]), draw(9, 2), draw(9, 2)], draw(2, 2, 3, 4), 1, {}),
    "DynamicQuantizeLSTM": lstm(np.int8, 1, 0),
    "DynamicQuantizeLSTM-ui8": lstm(np.uint8, 1, 120, direction="reverse"),
    "DynamicQuantizeLSTM-columns": lstm(np.int8, 2, 0, per_column=True, direction="bidirectional"),
}


def make_model(path, op, domain, inputs, x, outputs, attributes):
    names, constants = [], []
    for i, value in enumerate(inputs):
        names.append("" if value is None else value if isinstance(value, str) else f"c{i}")
        if isinstance(value, np.ndarray):
            constants.append(numpy_helper.from_array(value, f"c{i}"))
    # Means and deviations are in the schema of norms, but not computed here.
    names_out = ["y0", "", "", "y3"] if outputs == 4 else [f"y{i}" for i in range(outputs)]
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    graph = helper.make_graph(
        [helper.make_node(op, names, names_out, domain=domain, **attributes)], "g", [info],
        [helper.make_empty_tensor_value_info(name) for name in names_out if name], constants)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)


def compile_and_run(path, x, outputs, directory):
    subprocess.run([TERCET, "compile", path, "-o", directory / "net"], check=True, timeout=120)
    np.save(directory / "x.npy", x)
    command = [directory / "net", "--input", f"x={directory}/x.npy"]
    for name in outputs:
        command += ["--output", f"{name}={directory}/{name}.npy"]
    subprocess.run(command, check=True, timeout=120)
    return [np.load(directory / f"{name}.npy") for name in outputs]


def check(path, x, directory):
    session = ort.InferenceSession(path)
    outputs = [node.name for node in session.get_outputs()]
    for expected, actual in zip(session.run(outputs, {"x": x}), compile_and_run(path, x, outputs, directory)):
        assert actual.shape == expected.shape and actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_operator(name, tmp_path):
    inputs, x, outputs, attributes = CASES[name]
    path = tmp_path / "net.onnx"
    make_model(path, name.split("-")[0], "com.microsoft", inputs, x, outputs, attributes)
    check(path, x, tmp_path)


@pytest.mark.parametrize("x", (np.zeros(6, np.float32), np.float32([1, 3]), np.float32([-2, -1])),
                         ids=("zeros", "positive", "negative"))
def test_dynamic_quantize_linear(x, tmp_path):
    """Standard, but what becomes of zeros is said by onnxruntime alone."""
    path = tmp_path / "net.onnx"
    make_model(path, "DynamicQuantizeLinear", "", ["x"], x, 3, {})
    check(path, x, tmp_path)


@pytest.mark.parametrize("op, inputs, message", (
    ("MatMulNBits", ["x"], "has 1 inputs; at least 3 are needed"),
    ("Gelu", [None], "has 0 inputs; at least 1 are needed"),
    ("FusedMatMul", ["x", np.zeros((5, 8), np.int8)], "input 'B' is of type i8"),
    ("DynamicQuantizeLSTM", lstm(np.int8, 1, 0)[0][:-1], "has 11 inputs; at least 12 are needed"),
    ("NoSuchOperator", ["x"], "this operator is not supported")))
def test_refused(op, inputs, message, tmp_path):
    path = tmp_path / "net.onnx"
    make_model(path, op, "com.microsoft", inputs, X, 1, {})
    done = subprocess.run([TERCET, "compile", path, "-o", tmp_path / "net"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"com.microsoft.{op}" in done.stderr and message in done.stderr
