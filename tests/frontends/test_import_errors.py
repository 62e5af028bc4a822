# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every way in which a checkpoint can be wrong, and the one line that says so."""

import json
import os
import random
import re
import subprocess

import numpy as np
import pytest

import checkpoint
from checkpoint import FFN, HIDDEN, config, encode_file, llama_config, tensors, with_header, write, write_shards

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-import")
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


def run(model, *options):
    return subprocess.run([TOOL, *options, model], capture_output=True, timeout=60)


def error(model, *options):
    result = run(model, *options)
    message = result.stderr.decode()
    assert result.returncode == 1, result
    assert not result.stdout
    assert message.startswith("error: ") and message.count("\n") == 1, message
    return message


# ---- The file ---------------------------------------------------------------

def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def one(data=b"12345678", **fields):
    return with_header(json.dumps({"t": entry(**fields)}).encode(), data)


FILES = {
    "empty": (b"", "is empty"),
    "short": (b"1234567", "has 7 bytes"),
    "lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "header-beyond-file": (b"\xff\0\0\0\0\0\0\0{}", "header length 255 exceeds the file's 10 bytes"),
    "header-huge": (b"\xff" * 8 + b"{}", "header length 18446744073709551615 exceeds 100000000"),
    "header-empty": (with_header(b""), "not valid JSON"),
    "header-not-utf8": (with_header(b'{"\xff": 1}'), "is not UTF-8 (byte 2)"),
    "header-not-json": (with_header(b'{"t": '), "not valid JSON"),
    "header-not-object": (with_header(b"[]"), "must be a JSON object"),
    "header-deep": (with_header(b'{"a":' + b"[" * 100_000), "nested deeper than 64"),
    "entry-not-object": (with_header(b'{"t": 1}'), "tensor 't'"),
    "entry-lacks-dtype": (with_header(b'{"t": {"shape": [], "data_offsets": [0, 0]}}'), "must have dtype"),
    "entry-has-more": (one(order="fortran"), "nothing else"),
    "duplicate": (with_header(b'{"t": {}, "t": {}}'), "key 't' appears twice (second at byte 10)"),
    "duplicate-escaped": (with_header(rb'{"t": {}, "\u0074": {}}'), "key 't' appears twice"),
    "duplicate-field": (with_header(b'{"t": {"dtype": "U8", "dtype": "F32"}}'), "key 'dtype' appears twice"),
    "dtype-unknown": (one(dtype="F12"), "unknown dtype 'F12'"),
    "dimension-negative": (one(shape=[-2]), "not a size: -2"),
    "dimension-fraction": (one(shape=[1.5]), "not a size: 1.5"),
    "dimension-string": (one(shape=["2"]), 'not a size: "2"'),
    "dimension-huge": (one(shape=[2**64]), "not a size"),
    "shape-overflow": (one(shape=[2**40, 2**40]), "overflows"),
    "shape-overflow-zero": (one(shape=[2**40, 2**40, 0]), "overflows"),
    "size-mismatch": (one(shape=[3]), "F32 of shape [3] needs 12 bytes, data_offsets hold 8"),
    "offsets-reversed": (one(offsets=[8, 0]), "are not a range"),
    "offsets-negative": (one(offsets=[-8, 0]), "are not a range"),
    "offsets-three": (one(offsets=[0, 4, 8]), "two data_offsets"),
    "offsets-beyond-file": (one(data=b"1234567"), "ends at byte 8 of the data, but the file has 7"),
    "offsets-huge": (one(shape=[2**62 - 1], offsets=[0, 2**64 - 4]), "overflows"),
    "hole-at-start": (one(data=b"0" * 12, offsets=[4, 12]), "starts at byte 4 of the data, but the header ends at 0"),
    "hole-at-end": (one(data=b"0" * 9), "1 bytes follow the last tensor"),
    "overlap": (with_header(json.dumps({"a": entry(), "b": entry(offsets=[4, 12])}).encode(), b"0" * 12),
                "tensor 'b' starts at byte 4 of the data, but a ends at 8"),
    "unaligned": (with_header(json.dumps({"a": entry("U8", [1], [0, 1]), "b": entry("BF16", [1], [1, 3])}).encode(),
                              b"0" * 3), "offset 1 is not a multiple of its BF16 element"),
    "half-a-byte": (one(dtype="F4", shape=[3], offsets=[0, 2], data=b"00"), "F4 of shape [3] needs 2 bytes"),
}


@pytest.mark.parametrize("name", FILES)
def test_file(tmp_path, name):
    contents, expected = FILES[name]
    (tmp_path / "config.json").write_text(json.dumps(config()))
    (tmp_path / "model.safetensors").write_bytes(contents)
    message = error(tmp_path)
    assert expected in message and "model.safetensors: " in message


def test_truncated_anywhere(tmp_path):
    write(tmp_path, tensors(), config())
    whole = (tmp_path / "model.safetensors").read_bytes()
    for length in (8, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:length])
        assert "model.safetensors" in error(tmp_path)


def test_spoiled_headers_never_crash(tmp_path):
    """A few hundred random edits; what is still valid may be imported."""
    write(tmp_path, tensors(), config())
    whole = (tmp_path / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(1)
    for _ in range(200):
        spoiled = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            spoiled[rng.randrange(header)] = rng.choice(b'{}[]",:0129-\\u\xff\0')
        (tmp_path / "model.safetensors").write_bytes(spoiled)
        assert run(tmp_path).returncode in (0, 1)


def test_messages_are_one_printable_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config()))
    header = json.dumps({"a\n\x1b[31m" + "b" * 5000: 1})
    (tmp_path / "model.safetensors").write_bytes(with_header(header.encode()))
    message = error(tmp_path)
    assert "\x1b" not in message and len(message) < 1100


# ---- Directories and shards ---------------------------------------------------

def test_what_is_no_model(tmp_path):
    assert "no such file" in error(tmp_path / "absent")
    assert "config.json: cannot open" in error(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config()))
    assert "holds neither model.safetensors nor" in error(tmp_path)
    for name, expected in (("m.gguf", "is no GGUF file"),
                           ("m.onnx", "is no ONNX model"), ("m.bin", "is no model")):
        (tmp_path / name).write_bytes(b"x")
        assert expected in error(tmp_path / name)
    (tmp_path / "model.safetensors").mkdir()
    assert "is not a regular file" in error(tmp_path)


def test_shards(tmp_path):
    index = write_shards(tmp_path, tensors(), config())
    path = tmp_path / "model.safetensors.index.json"
    first, second = sorted(set(index["weight_map"].values()))

    def error_with(**changes):
        path.write_text(json.dumps({**index, "weight_map": {**index["weight_map"], **changes}}))
        return error(tmp_path)

    assert "'absent' is not in " + first in error_with(absent=first)
    name = next(name for name, file in index["weight_map"].items() if file == first)
    assert f"'{name}' is not in {second}" in error_with(**{name: second})
    assert "third.safetensors: missing" in error_with(absent="third.safetensors")
    for bad in ("../" + first, "/etc/passwd", "..", "", 7):
        assert "must name a file of the same directory" in error_with(absent=bad)
    path.write_text("{}")
    assert "has no 'weight_map'" in error(tmp_path)
    path.write_text("{")
    assert "index.json: is not valid JSON" in error(tmp_path)
    path.write_text(json.dumps(index))
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    assert "is also in" in error(tmp_path)
    (tmp_path / second).unlink()
    assert f"{second}: missing" in error(tmp_path)


# ---- config.json --------------------------------------------------------------

QUANT = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
CONFIGS = [
    (dict(model_type="gemma", architectures=["GemmaForCausalLM"]), "architecture 'GemmaForCausalLM'"),
    (dict(model_type="mistral", architectures=None), "model_type 'mistral'"),
    (dict(architectures=["BitNetForSequenceClassification"]), "BitNetForSequenceClassification"),
    (dict(model_type="llama", architectures=["LlamaForCausalLM"], quantization_config=None), "an ordinary Llama"),
    (dict(hidden_size=None), "'hidden_size' is missing"),
    (dict(vocab_size=None), "'vocab_size' is missing"),
    (dict(hidden_size="32"), "'hidden_size' must be an integer from 1"),
    (dict(hidden_size=-32), "not -32"),
    (dict(hidden_size=0), "not 0"),
    (dict(num_attention_heads=0), "'num_attention_heads' must be an integer"),
    (dict(num_key_value_heads=0), "'num_key_value_heads' must be an integer"),
    (dict(hidden_size=32.5), "not 32.5"),
    (dict(hidden_size=2**40), "not 1099511627776"),
    (dict(hidden_size=True), "not true"),
    (dict(intermediate_size=200_000), "from 1 to 131072"),
    (dict(num_hidden_layers=10**9), "'num_hidden_layers' must be"),
    (dict(num_attention_heads=3), "'num_attention_heads' = 3 is not a multiple of 'num_key_value_heads' = 2"),
    (dict(num_attention_heads=6), "'hidden_size' = 32 is not a multiple of 'num_attention_heads' = 6"),
    (dict(head_dim=7), "'head_dim' = 7 is odd"),
    (dict(hidden_act="gelu"), "'hidden_act' = 'gelu'"),
    (dict(hidden_act=3), "'hidden_act' must be a string"),
    (dict(rms_norm_eps=0), "'rms_norm_eps' must be a number"),
    (dict(rms_norm_eps=-1e-5), "'rms_norm_eps'"),
    (dict(rms_norm_eps="1e-5"), "'rms_norm_eps'"),
    (dict(rope_theta=0), "'rope_theta'"),
    (dict(rope_theta=[1]), "'rope_theta'"),
    (dict(rope_scaling={"rope_type": "llama3", "factor": 8}), "'rope_scaling' asks for rope_type 'llama3'"),
    (dict(rope_scaling={"type": "linear", "factor": 2}), "rope_type 'linear'"),
    (dict(rope_scaling="linear"), "'rope_scaling' must be an object"),
    (dict(rope_parameters={"rope_type": "yarn"}), "rope_type 'yarn'"),
    (dict(rope_parameters={"rope_theta": 7.0}), "'rope_theta' is 500000, but 'rope_parameters.rope_theta' is 7"),
    (dict(rope_parameters={"rope_theta": 5e5, "partial_rotary_factor": 0.5}), "'partial_rotary_factor' = 0.5"),
    (dict(tie_word_embeddings="yes"), "'tie_word_embeddings' must be true or false"),
    (dict(max_position_embeddings=0), "'max_position_embeddings'"),
    (dict(attention_bias=True), "'attention_bias' = true"),
    (dict(mlp_bias=True), "'mlp_bias' = true"),
    (dict(sliding_window=4096), "'sliding_window' = 4096"),
    (dict(pretraining_tp=2), "'pretraining_tp' = 2"),
    (dict(weight_bits=2), "'weight_bits' = 2"),
    (dict(quantization_config="bitnet"), "'quantization_config' must be an object"),
    (dict(quantization_config={**QUANT, "quant_method": "gptq"}), "'quant_method' must be 'bitnet', not 'gptq'"),
    (dict(quantization_config={**QUANT, "linear_class": "bit"}), "'linear_class' must be"),
    (dict(quantization_config={**QUANT, "quantization_mode": "later"}), "'quantization_mode' must be"),
    (dict(quantization_config={**QUANT, "use_rms_norm": True}), "'use_rms_norm' = true"),
    (dict(quantization_config={**QUANT, "modules_to_not_convert": "lm_head"}), "must be a list"),
    (dict(quantization_config={**QUANT, "modules_to_not_convert": ["("]}), "no module name or pattern"),
]


@pytest.mark.parametrize("changes, expected", CONFIGS)
def test_config(tmp_path, changes, expected):
    message = error(write(tmp_path, tensors(), config(**changes)))
    assert "config.json" in message and expected in message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff{}", b'{"a": ' + b"[" * 1000])
def test_config_is_no_object(tmp_path, text):
    write(tmp_path, tensors(), config())
    (tmp_path / "config.json").write_bytes(text)
    assert "config.json: " in error(tmp_path)


@pytest.mark.parametrize("context", ["-1", str((1 << 24) + 1)])
def test_context(tmp_path, context):
    message = error(write(tmp_path, tensors(), config()), "--context=" + context)
    assert f"config.json: a context of {context} is not in 1 to {1 << 24}" in message


# ---- Tensors against config.json ------------------------------------------------

def spoil(tmp_path, changes, kind="packed", fields=None):
    contents = {**tensors(kind), **changes}
    contents = {name: tensor for name, tensor in contents.items() if tensor}
    return error(write(tmp_path, contents, fields or config()))


@pytest.mark.parametrize("name", [
    "model.embed_tokens.weight", "model.norm.weight", NORM, Q_PROJ, Q_PROJ + "_scale",
    "model.layers.1.mlp.ffn_sub_norm.weight"])
def test_missing(tmp_path, name):
    assert f"tensor '{name}', which the checkpoint lacks" in spoil(tmp_path, {name: None})


def test_head_is_missing(tmp_path):
    model = write(tmp_path, tensors(), config(tie_word_embeddings=False))
    message = error(model)
    assert "tie_word_embeddings" in message and "'lm_head.weight', which the checkpoint lacks" in message


@pytest.mark.parametrize("changes, expected", [
    ({NORM: checkpoint.bf16(np.ones(HIDDEN + 1))}, r"has shape \[33\].*hidden_size = 32\) needs \[32\]"),
    ({NORM: ("I32", [HIDDEN], bytes(4 * HIDDEN))}, "has dtype I32; only BF16, F16 and F32"),
    ({Q_PROJ: checkpoint.packed(np.zeros((16, HIDDEN)))},
     r"has shape \[4, 32\].*num_attention_heads \* head_dim = 32, hidden_size = 32\) needs \[8, 32\]"),
    ({Q_PROJ: ("I8", [8, HIDDEN], bytes(8 * HIDDEN))}, "has dtype I8"),
    ({Q_PROJ: checkpoint.bf16(np.zeros((HIDDEN, HIDDEN)))}, "has dtype BF16, but .* weights are packed"),
    ({Q_PROJ + "_scale": checkpoint.bf16([1, 1])}, r"must be one .* number, not BF16 of shape \[2\]"),
    ({Q_PROJ + "_scale": ("U8", [1], b"1")}, "must be one .* number, not U8"),
    ({Q_PROJ + "_scale": checkpoint.bf16([0])}, "is 0.*no plausible scale"),
    ({Q_PROJ + "_scale": checkpoint.bf16([-1])}, "is -1.*no plausible scale"),
    ({Q_PROJ + "_scale": checkpoint.bf16([np.nan])}, "is nan, no plausible scale"),
    ({Q_PROJ + "_scale": checkpoint.bf16([np.inf])}, "no plausible scale"),
    ({Q_PROJ + "_scale": checkpoint.f32([1e30])}, "no plausible scale"),
    ({"model.embed_tokens.weight": checkpoint.bf16(np.zeros((41, HIDDEN)))}, "vocab_size = 40"),
    ({"model.layers.0.self_attn.q_proj.bias": checkpoint.bf16(np.ones(HIDDEN))}, "q_proj.bias' is not part|q_proj.bias': is not part"),
    ({"model.layers.0.self_attn.q_norm.weight": checkpoint.bf16(np.ones(8))}, "q_norm.weight': is not part"),
    ({"model.layers.2.input_layernorm.weight": checkpoint.bf16(np.ones(HIDDEN))},
     "belongs to layer 2, but .* num_hidden_layers = 2"),
    ({"lm_head.weight": checkpoint.bf16(np.zeros((40, HIDDEN)))}, "differs from 'model.embed_tokens.weight'.*tie_word"),
])
def test_tensor(tmp_path, changes, expected):
    message = spoil(tmp_path, changes)
    assert re.search(expected, message), message
    assert next(iter(changes)) in message and "model.safetensors" in message


def test_packed_weights_need_a_scale_direction(tmp_path):
    assert "no quantization_config that says how" in error(
        write(tmp_path, tensors(), config(quantization_config=None)))


def test_packed_rows_come_in_fours(tmp_path):
    contents = tensors()
    for layer in range(2):
        for name in ("gate_proj", "up_proj"):
            contents[f"model.layers.{layer}.mlp.{name}.weight"] = checkpoint.packed(np.zeros((48, HIDDEN)))
    message = error(write(tmp_path, contents, config(intermediate_size=FFN + 2)))
    assert "packs 4 rows an entry" in message and "intermediate_size = 50" in message


def test_packed_weights_listed_as_float(tmp_path):
    fields = config(quantization_config={**QUANT, "modules_to_not_convert": ["q_proj"]})
    assert "lists it in modules_to_not_convert" in error(write(tmp_path, tensors(), fields))


def test_llama_with_sub_norms(tmp_path):
    assert "attn_sub_norm.weight': is not part" in error(write(tmp_path, tensors(head=True), llama_config()))


def test_packed_head(tmp_path):
    contents = tensors(norms=None)
    contents["lm_head.weight"] = checkpoint.packed(np.zeros((40, HIDDEN)))
    assert "not supported for the head" in error(write(tmp_path, contents, llama_config()))
