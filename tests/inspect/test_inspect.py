# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What reading all of a model finds: broken values, and the report."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "frontends"))
import checkpoint  # noqa: E402
from checkpoint import FFN, HIDDEN, config, tensors, write  # noqa: E402

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-import")
UP_PROJ = "model.layers.1.mlp.up_proj.weight"


def run(*args):
    return subprocess.run([TOOL, *args], text=True, capture_output=True, timeout=60)


def error(*args):
    result = run(*args)
    assert result.returncode == 1 and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def report(model):
    result = run("--inspect", "--json", model)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def spoil(contents, name, byte, value):
    dtype, shape, data = contents[name]
    contents[name] = dtype, shape, data[:byte] + bytes([value]) + data[byte + 1:]


def test_good_models_pass(tmp_path):
    for kind in ("packed", "latent"):
        fields = config() if kind == "packed" else config(quantization_config=None)
        assert run("--check", write(tmp_path / kind, tensors(kind), fields)).returncode == 0


@pytest.mark.parametrize("plane", range(4))
def test_code_3(tmp_path, plane):
    contents = tensors()
    spoil(contents, UP_PROJ, 5 * HIDDEN + 7, 3 << 2 * plane)
    message = error("--check", write(tmp_path, contents, config()))
    assert f"model.safetensors: tensor '{UP_PROJ}': row {5 + plane * FFN // 4}, column 7 has the invalid code 3" in message


@pytest.mark.parametrize("encode", [checkpoint.bf16, checkpoint.f16, checkpoint.f32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, encode, value):
    fields = config(quantization_config=None)

    def spoilt(name, shape, index):
        values = np.ones(shape, np.float32)
        values[index] = value
        contents = {**tensors("latent", encode=encode), name: encode(values)}
        return error("--check", write(tmp_path, contents, fields))

    assert "'model.norm.weight': element 31 is infinite" in spoilt("model.norm.weight", HIDDEN, 31)
    assert "row 39, column 1 is infinite" in spoilt("model.embed_tokens.weight", (40, HIDDEN), (39, 1))
    assert f"'{UP_PROJ}': row 0, column 0" in spoilt(UP_PROJ, (FFN, HIDDEN), (0, 0))


def test_signs_are_not_trits(tmp_path):
    contents = tensors()
    signs = np.where(np.random.default_rng(0).normal(size=(FFN, HIDDEN)) < 0, -1, 1)
    contents[UP_PROJ] = checkpoint.packed(signs)
    assert "the signs of one" in error("--check", write(tmp_path, contents, config()))


def test_signs_in_latents(tmp_path):
    contents = tensors("latent")
    contents[UP_PROJ] = checkpoint.bf16(np.where(np.arange(FFN * HIDDEN).reshape(FFN, HIDDEN) % 3, 0.5, -0.5))
    message = error("--inspect", write(tmp_path, contents, config(quantization_config=None)))
    assert "model.layers.1.mlp.up_proj: 0.00% of the weights are zero" in message


def test_packed_report(tmp_path):
    found = report(write(tmp_path, tensors(), config()))
    assert found["architecture"] == "BitNetForCausalLM"
    assert (found["layers"], found["hidden_size"], found["heads"], found["kv_heads"]) == (2, 32, 4, 2)
    assert (found["head_dim"], found["vocab_size"], found["context"]) == (8, 40, 64)
    assert found["tied_head"] and found["sub_norms"] and found["hidden_act"] == "relu2"
    assert found["memory"]["kv_cache_bytes"] == 2 * 4 * 2 * 2 * 64 * 8
    assert len(found["matrices"]) == 14 and not found["notes"]
    codes = np.frombuffer(tensors()[UP_PROJ][2], np.uint8)
    zeros = sum(((codes >> 2 * i & 3) == 1).sum() for i in range(4))
    up_proj = next(m for m in found["matrices"] if m["name"] + ".weight" == UP_PROJ)
    assert up_proj["zero_fraction"] == zeros / (FFN * HIDDEN)
    assert up_proj["weights"] == "packed" and up_proj["shape"] == [FFN, HIDDEN]


def test_latent_report(tmp_path):
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.02, (FFN, HIDDEN)).astype(np.float32)
    contents = {**tensors("latent"), UP_PROJ: checkpoint.f32(weights)}
    model = write(tmp_path, contents, config(quantization_config=None))
    up_proj = next(m for m in report(model)["matrices"] if m["name"] + ".weight" == UP_PROJ)
    gamma = np.abs(weights, dtype=np.float64).mean()
    trits = np.clip(np.round(weights / np.float32(gamma)), -1, 1)
    cosine = (weights * trits).sum() / np.sqrt((weights**2).sum() * (trits**2).sum())
    assert np.isclose(up_proj["gamma"], gamma, rtol=1e-6)
    assert up_proj["zero_fraction"] == (trits == 0).mean() and up_proj["distribution"] == "gaussian"
    assert np.isclose(up_proj["cos_weights"], cosine, rtol=1e-5)
    assert up_proj["cos_fake_quantised"] > 0.999999
    assert 0.6 < up_proj["cos_raw"] < 0.99
    text = run("--inspect", model).stdout
    assert "weights: LATENT" in text and "0/14 ternary" in text
    assert "note: the raw-W cosine is not an error measure" in text


def test_contradictions_are_warned_of(tmp_path):
    silu = report(write(tmp_path / "a", tensors(), config(hidden_act="silu")))
    assert "Check hidden_act" in silu["notes"][0]
    relu2 = report(write(tmp_path / "b", tensors(norms=None, head=True), checkpoint.llama_config(hidden_act="relu2")))
    assert "Check hidden_act" in relu2["notes"][0]


def test_onnx_graph(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.ones((3, 5), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("Gelu", ["b"], ["y"], domain="com.microsoft")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ("n", None, 3))],
                              [helper.make_tensor_value_info("y", 1, None)], [weights])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]), tmp_path / "net.onnx")
    assert report(tmp_path / "net.onnx") == {
        "format": "onnx", "ir_version": 10, "opsets": {"ai.onnx": 21, "com.microsoft": 1},
        "inputs": [{"name": "x", "element": "f32", "dims": ["n", "?", "3"]}],
        "outputs": [{"name": "y", "element": "f32"}], "constants": 1, "constant_bytes": 60,
        "nodes": {"MatMul": 1, "Relu": 1, "com.microsoft.Gelu": 1}, "bit_linear": []}
    text = run("--inspect", tmp_path / "net.onnx").stdout
    assert "ONNX graph, IR version 10, ai.onnx 21, com.microsoft 1\n" in text
    assert "input:     x f32[n, ?, 3]\noutput:    y f32\nconstants: 1, 0.1 KB\nnodes:     3\n" in text
