# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Operators of onnxruntime's own domain, which its optimiser and its quantiser write:
the result of onnxruntime."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
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


def multi_head(keys=(2, 5, 32), bias=None, mask=None, scores=None, past=0, outputs=1, **attributes):
    state = draw(2, 4, past, 8) if past else None
    return (["x", draw(*keys), draw(*keys), bias, mask, scores, state, state], draw(2, 3, 32), outputs,
            {"num_heads": 4, **attributes})


def group_query(lengths, steps=3, past=0, rotary=0, packed=False, positions=None, bias=None, sink=None, **attributes):
    """Of 4 heads of 16 on 2 of keys and values; `lengths` are those of sequences after the step."""
    batch, total = len(lengths), np.int32([max(lengths)])
    keys = [None, None] if packed else [draw(batch, steps, 32), draw(batch, steps, 32)]
    state = [draw(batch, 2, past, 16), draw(batch, 2, past, 16)] if past else [None, None]
    angles = [draw(20, rotary // 2), draw(20, rotary // 2)] if rotary else [None, None]
    return (["x", *keys, *state, np.int32(lengths) - 1, total, *angles, positions, bias, sink],
            draw(batch, steps, 128 if packed else 64), 3,
            {"num_heads": 4, "kv_num_heads": 2, "do_rotary": int(rotary > 0), **attributes})


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
    "MultiHeadAttention": multi_head(),
    "MultiHeadAttention-bias": multi_head(bias=draw(96)),
    "MultiHeadAttention-lengths": multi_head(mask=np.int32([5, 2])),
    "MultiHeadAttention-keys": multi_head(mask=np.int32([[1, 1, 0, 1, 1], [0, 0, 1, 0, 0]])),
    "MultiHeadAttention-pairs": multi_head(mask=RNG.integers(0, 2, (2, 3, 5), np.int32), mask_filter_value=-3.0),
    "MultiHeadAttention-scores": multi_head(scores=draw(1, 4, 3, 5), scale=0.5),
    "MultiHeadAttention-past": multi_head(keys=(2, 3, 32), past=2, outputs=3, unidirectional=1),
    "MultiHeadAttention-cross": multi_head(keys=(2, 4, 6, 8)),
    "GroupQueryAttention": group_query([3, 3]),
    "GroupQueryAttention-padded": group_query([3, 2], rotary=16),
    "GroupQueryAttention-past": group_query([5, 3], steps=1, past=4, rotary=16),
    "GroupQueryAttention-room": group_query([4, 6], steps=1, past=9, rotary=16, rotary_interleaved=1),
    "GroupQueryAttention-chunk": group_query([7], past=4, rotary=16, packed=True),
    "GroupQueryAttention-packed": group_query([3, 3], packed=True, scale=0.5),
    "GroupQueryAttention-window": group_query([7], past=4, local_window_size=2),
    "GroupQueryAttention-softcap": group_query([3, 3], softcap=0.5, bias=draw(1, 4, 3, 3)),
    "GroupQueryAttention-positions": group_query([6, 5], steps=1, past=5, rotary=16, positions=np.array([[9], [2]])),
    "GroupQueryAttention-first": group_query([3, 3], rotary=16, positions=np.array([[4, 7, 1], [0, 1, 2]])),
    "GroupQueryAttention-sink": group_query([3, 3], sink=draw(4)),
    "GroupQueryAttention-smooth": group_query([3, 3], smooth_softmax=1),
    "GroupQueryAttention-everywhere": group_query([3, 3], causal=0),
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


def test_steps_of_a_language_model(tmp_path):
    """Lengths follow from the mask of the prompt and what came after it, as onnxruntime-genai exports them: a prompt
    without a past, and two steps on what it left."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        graph (float[B, S, 128] x, float[B, 2, P, 16] keys, float[B, 2, P, 16] values, int64[B, T] mask,
               float[20, 8] cosines, float[20, 8] sines) => (y, new_keys, new_values) {
          axis = Constant <value_ints = [1]> ()
          one = Constant <value_ints = [1]> ()
          counts = ReduceSum <keepdims = 0> (mask, axis)
          last = Sub(counts, one)
          lengths = Cast <to = 6> (last)
          shape = Shape(mask)
          place = Constant <value_int = 1> ()
          width = Gather(shape, place)
          total = Cast <to = 6> (width)
          y, new_keys, new_values = com.microsoft.GroupQueryAttention
              <num_heads = 4, kv_num_heads = 2, do_rotary = 1, local_window_size = 4>
              (x, , , keys, values, lengths, total, cosines, sines)
        }""")
    onnx.save(model, tmp_path / "net.onnx")
    session = ort.InferenceSession(tmp_path / "net.onnx")
    subprocess.run([TERCET, "compile", tmp_path / "net.onnx", "-o", tmp_path / "net"], check=True, timeout=120)
    outputs = [node.name for node in session.get_outputs()]
    state = np.zeros((2, 2, 0, 16), np.float32)
    inputs = {"keys": state, "values": state, "cosines": draw(20, 8), "sines": draw(20, 8)}
    for past, steps in ((0, 5), (5, 1), (6, 1)):
        inputs |= {"x": draw(2, steps, 128), "mask": np.ones((2, past + steps), np.int64)}
        command = [tmp_path / "net"]
        for name, value in inputs.items():
            np.save(tmp_path / f"{name}.npy", value)
            command += ["--input", f"{name}={tmp_path}/{name}.npy"]
        subprocess.run(command + [f"--output={name}={tmp_path}/{name}.npy" for name in outputs], check=True)
        expected = dict(zip(outputs, session.run(outputs, inputs)))
        for name, value in expected.items():
            np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, rtol=1e-4, atol=1e-5)
        inputs |= {"keys": expected["new_keys"], "values": expected["new_values"]}

    # Lengths that would lead out of the state.
    inputs["mask"][:] = 2
    np.save(tmp_path / "mask.npy", inputs["mask"])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "seqlens_k does not fit total_sequence_length and the past" in done.stderr


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
    ("MultiHeadAttention", ["x", np.zeros((2, 3, 8), np.float32), np.zeros((2, 3, 8), np.float32)],
     "attribute 'num_heads' is missing"),
    ("NoSuchOperator", ["x"], "this operator is not supported")))
def test_refused(op, inputs, message, tmp_path):
    path = tmp_path / "net.onnx"
    make_model(path, op, "com.microsoft", inputs, X, 1, {})
    done = subprocess.run([TERCET, "compile", path, "-o", tmp_path / "net"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"com.microsoft.{op}" in done.stderr and message in done.stderr


@pytest.mark.parametrize("attributes, message", (
    ({"num_heads": 5}, "num_heads is no multiple of kv_num_heads"),
    ({"num_heads": 6}, "a query of 6 heads is 64 wide"),
    ({"sliding_window_cache": 1}, "sliding_window_cache 1 is not supported"),
    ({"k_quant_type": "PER_TENSOR"}, "k_quant_type 'PER_TENSOR' is not supported"),
    ({"do_rotary": 1}, "do_rotary without cosines or sines")))
def test_forms_of_attention_that_are_refused(attributes, message, tmp_path):
    inputs, x, outputs, given = group_query([3, 3])
    make_model(tmp_path / "net.onnx", "GroupQueryAttention", "com.microsoft", inputs, x, outputs, given | attributes)
    done = subprocess.run([TERCET, "compile", tmp_path / "net.onnx", "-o", tmp_path / "net"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "com.microsoft.GroupQueryAttention" in done.stderr and message in done.stderr
