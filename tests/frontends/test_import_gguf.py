# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A model means the same as a .gguf file of any type and as a Hugging Face
directory: its logits are equal, bit by bit, by the reference interpreter."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

import checkpoint
import gguf_model
from gguf_file import F32, U32, STRING, value
from gguf_model import BLOCKS, FFN, HIDDEN, LINEARS, TERNARY, VOCAB, Model, Type, random_blocks

BIN = os.environ["TERCET_BIN_DIR"]
TOKENS = "3,1,4,1,5"
AUSTEN = pathlib.Path(__file__).parents[1] / "models/austen"


def logits(model, path):
    subprocess.run([f"{BIN}/tercet-reference", model, "--tokens", TOKENS, "--logits", path], check=True)
    return np.load(path)


def assert_equal(tmp_path, left, right):
    a, b = logits(left, tmp_path / "a.npy"), logits(right, tmp_path / "b.npy")
    assert np.array_equal(a, b) and np.isfinite(a).all() and a.std() > 0.1


def run(path, *options):
    return subprocess.run([f"{BIN}/tercet-import", *options, path], capture_output=True, text=True)


def imported(path, *options):
    result = run(path, *options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def error(path, *options):
    result = run(path, *options)
    errors = [line for line in result.stderr.splitlines() if "warning: " not in line]
    assert result.returncode == 1 and not result.stdout
    assert len(errors) == 1 and errors[0].startswith(f"error: {path}: "), result.stderr
    return errors[0]


def austen(encode):
    """The trained model of tests/models, as tensors and metadata."""
    fields = json.loads((AUSTEN / "config.json").read_text())
    state = load_file(AUSTEN / "model.safetensors")
    tensors = {"token_embd.weight": float_tensor(state["model.embed_tokens.weight"]),
               "output_norm.weight": float_tensor(state["model.norm.weight"])}
    for layer in range(fields["num_hidden_layers"]):
        prefix, block = f"model.layers.{layer}.", f"blk.{layer}."
        for name, (short, _) in gguf_model.NORMS.items():
            tensors[f"{block}{short}.weight"] = float_tensor(state[f"{prefix}{name}.weight"])
        for name, (short, _, _) in LINEARS.items():
            packed = state[f"{prefix}{name}.weight"].numpy()
            trits = np.concatenate([(packed >> 2 * i & 3).astype(np.int8) - 1 for i in range(4)])
            scale = float(state[f"{prefix}{name}.weight_scale"].float())
            tensors[f"{block}{short}.weight"] = (encode(trits, scale)[0], trits.shape, encode(trits, scale)[1])
    keys = {"block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
            "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
            "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads"}
    metadata = [value("general.architecture", STRING, "bitnet-b1.58")]
    metadata += [value(f"bitnet-b1.58.{key}", U32, fields[field]) for key, field in keys.items()]
    metadata += [value("bitnet-b1.58.attention.layer_norm_rms_epsilon", F32, fields["rms_norm_eps"]),
                 value("bitnet-b1.58.rope.freq_base", F32, fields["rope_theta"])]
    return tensors, metadata


def float_tensor(values):
    """A norm is F32, an embedding BF16: as the checkpoint has it."""
    if values.ndim == 1:
        return 0, tuple(values.shape), values.float().numpy().tobytes()
    return 30, tuple(values.shape), values.bfloat16().view(torch.uint16).numpy().tobytes()


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet-25", "bitnet", "llama"])
@pytest.mark.parametrize("kind", TERNARY)
def test_types_of_weights(tmp_path, kind, architecture):
    model = Model(architecture, tied=architecture != "llama")
    if kind == "q8_0":  # 127 codes of an f16
        model.scales = {n: float(np.float32(np.float16(s / 127)) * 127) for n, s in model.scales.items()}
    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"),
                 model.write_gguf(tmp_path / "m.gguf", TERNARY[kind]))


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "llama"])
@pytest.mark.parametrize("shape", ["rows", "blocks"])
def test_scales_of_rows_and_blocks(tmp_path, shape, architecture):
    """Where types that share little agree; a type of one scale agrees in the
    part that has one."""
    model = Model(architecture)
    rng = np.random.default_rng(1)
    for name, trits in model.trits.items():
        groups = trits.shape[1] // 256 if shape == "blocks" else 1
        model.scales[name] = rng.integers(64, 128, (len(trits), groups)) / 128
    left, right = ("iq1_bn", "iq2_bn") if shape == "rows" else ("tq1_0", "tq2_0")
    assert_equal(tmp_path, model.write_gguf(tmp_path / "a.gguf", TERNARY[left]),
                 model.write_gguf(tmp_path / "b.gguf", TERNARY[right]))
    module = imported(tmp_path / "a.gguf")
    groups = {"rows": 1, "blocks": 2}[shape]
    assert f"@blk.0.ffn_down.weight.scales : tensor<256x{groups}xf32>" in module
    assert f"group = {512 // groups} " in module

    # Equal scales are one.
    name = "model.layers.0.self_attn.k_proj"
    model.scales[name] = np.full_like(model.scales[name], 0.5)
    model.write_gguf(tmp_path / "a.gguf", TERNARY[left])
    assert "@blk.0.attn_k.weight.scales" not in imported(tmp_path / "a.gguf")


def test_blocks_without_scale_are_zero(tmp_path):
    """Whatever their codes, and the others share one scale."""
    model = Model()
    for name, trits in model.trits.items():
        trits[::3, :256] = 0
    tensors = model.tensors(TERNARY["tq2_0"])
    for name, (kind, shape, data) in tensors.items():
        if kind == 35:
            blocks = np.frombuffer(data, np.uint8).copy().reshape(-1, 66)
            blocks[(blocks[:, 64:] == 0).all(axis=1), :64] = 0xff  # code 3
            tensors[name] = kind, shape, blocks.tobytes()
    gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"), tmp_path / "m.gguf")
    assert ".scales" not in imported(tmp_path / "m.gguf", "--check")


def test_scales_of_zero_blocks_do_not_count(tmp_path):
    model = Model()
    for trits in model.trits.values():
        trits[5, :256] = 0
    model.scales = {name: np.full((len(trits), trits.shape[1] // 256), 0.75) for name, trits in model.trits.items()}
    tensors = model.tensors(TERNARY["tq2_0"])
    for name, (kind, shape, data) in tensors.items():
        if kind == 35:
            blocks = np.frombuffer(data, np.uint8).copy().reshape(-1, 66)
            blocks[(blocks[:, 64:] == 0).all(axis=1), 64:] = np.float16(3).view((np.uint8, 2))
            tensors[name] = kind, shape, blocks.tobytes()
    gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
    assert ".scales" not in imported(tmp_path / "m.gguf")


@pytest.mark.parametrize("encode", [checkpoint.f32, checkpoint.f16, checkpoint.bf16])
def test_latent_weights(tmp_path, encode):
    """Floats that are not ternary are quantised by absmean, for a BitNet."""
    model = Model()
    rng = np.random.default_rng(3)
    latent = {name: rng.normal(0, 0.02, trits.shape).astype(np.float32) for name, trits in model.trits.items()}
    contents = {f"{name}.weight": checkpoint.f32(values) for name, values in model.floats.items()}
    contents.update({f"{name}.weight": encode(values) for name, values in latent.items()})
    directory = checkpoint.write(tmp_path / "hf", contents, {**model.config(), "quantization_config": None})
    model.trits = latent
    kind = {"F32": 0, "F16": 1, "BF16": 30}[encode([0])[0]]
    assert_equal(tmp_path, directory,
                 model.write_gguf(tmp_path / "m.gguf", lambda values, _: (kind, encode(values)[2])))
    assert imported(tmp_path / "m.gguf").count("absmean_quantize") == 14


def test_separate_scales(tmp_path):
    """Trits of scale 1, and .scale tensors."""
    model = Model("bitnet")
    directory = model.write_directory(tmp_path / "hf")
    scales, model.scales = model.scales, dict.fromkeys(model.scales, 1.0)
    for kind in ("f16", "tq1_0", "iq2_bn", "i2_s"):
        tensors = model.tensors(TERNARY[kind])
        for name, scale in scales.items():
            layer, module = name.removeprefix("model.layers.").split(".", 1)
            tensors[f"blk.{layer}.{LINEARS[module][0]}.scale"] = 0, (1,), np.float32(scale).tobytes()
        gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
        assert_equal(tmp_path, directory, tmp_path / "m.gguf")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_quantised_embedding_and_head(tmp_path, kind, tied):
    """What ggml dequantises to, exactly."""
    model = Model(tied=tied)
    rng = np.random.default_rng(4)
    blocks = {}
    for name in ["model.embed_tokens", "lm_head"][:2 - tied]:
        data, model.floats[name] = random_blocks(kind, (VOCAB, HIDDEN), rng)
        blocks["token_embd" if name.startswith("model") else "output"] = int(kind), data
    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"),
                 model.write_gguf(tmp_path / "m.gguf", encode_float=lambda name, values: blocks[name]))


@pytest.mark.parametrize("kind", [Type.F16, Type.F32])
def test_embedding_of_widened_bf16(tmp_path, kind):
    """Converters make F16 or F32 of a checkpoint's bf16: it is that again."""
    model = Model()
    values = torch.tensor(model.floats["model.embed_tokens"]).bfloat16()
    values[0, :3] = torch.tensor([2.0**-14 * 1.0078125, 2.0**-20, 0.0])  # f16's subnormals
    model.floats["model.embed_tokens"] = values.float().numpy()
    encode = {Type.F16: np.float16, Type.F32: np.float32}[kind]

    def write():
        return model.write_gguf(tmp_path / "m.gguf", encode_float=lambda _, floats: (int(kind), floats.astype(encode).tobytes()))

    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"), write())
    assert "@model.embed_tokens.weight : tensor<288x256xbf16>" in imported(tmp_path / "hf")
    assert "@token_embd.weight : tensor<288x256xbf16>" in imported(tmp_path / "m.gguf")
    model.floats["model.embed_tokens"][-1, -1] = 1 + 2**-10
    assert f"@token_embd.weight : tensor<288x256x{kind.name.lower()}>" in imported(write())


def test_second_copy_of_the_embedding(tmp_path):
    model = Model()
    tensors = model.tensors()
    tensors["output.weight"] = tensors["token_embd.weight"]
    gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"), tmp_path / "m.gguf")
    assert "@output.weight" not in imported(tmp_path / "m.gguf")


def test_defaults_and_neutral_keys(tmp_path):
    model = Model()
    model.write_gguf(tmp_path / "a.gguf", rope__freq_base=(F32, 10000.0))
    model.write_gguf(tmp_path / "b.gguf", rope__freq_base=None, rope__dimension_count=None,
                     attention__key_length=(U32, 64), attention__value_length=(U32, 64), expert_count=(U32, 0),
                     rope__scaling__type=(STRING, "linear"), rope__scaling__factor=(F32, 1.0))
    assert_equal(tmp_path, tmp_path / "a.gguf", tmp_path / "b.gguf")


def test_split_model(tmp_path):
    model = Model()
    tensors = list(model.tensors().items())
    for part in range(3):
        values = [value("split.no", 2, part), value("split.count", 2, 3), value("split.tensors.count", 5, len(tensors))]
        gguf_model.write(tmp_path / f"m-{part + 1:05}-of-00003.gguf", values + (model.metadata() if part == 0 else []),
                         dict(tensors[part::3]))
    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"), tmp_path / "m-00001-of-00003.gguf")


def test_written_by_the_gguf_package(tmp_path):
    """gguf-py's writer, as converters use it."""
    model = Model("llama", tied=False)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(gguf_model.LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(gguf_model.HEADS)
    writer.add_head_count_kv(gguf_model.KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(gguf_model.HEAD_DIM)
    for name, (kind, shape, data) in model.tensors(TERNARY["tq1_0"]).items():
        raw = np.frombuffer(data, np.uint8 if kind else np.float32).reshape(*shape[:-1], -1)
        writer.add_tensor(name, raw, raw_dtype=Type(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_equal(tmp_path, model.write_directory(tmp_path / "hf"), tmp_path / "m.gguf")


# ---- The layouts of I2_S ------------------------------------------------------

QUANTIZED = [value("general.quantization_version", U32, 2)]  # what llama-quantize leaves


@pytest.mark.parametrize("encode", [gguf_model.i2_s, gguf_model.i2_s_arm, gguf_model.i2_s_rows])
def test_layout_of_i2_s(tmp_path, encode):
    """A trained model's weights tell; AUSTEN is one."""
    tensors, metadata = austen(encode)
    gguf_model.write(tmp_path / "m.gguf", metadata + QUANTIZED, tensors)
    assert_equal(tmp_path, AUSTEN, tmp_path / "m.gguf")


def test_layout_of_i2_s_unknown(tmp_path):
    message = error(Model().write_gguf(tmp_path / "m.gguf", more=QUANTIZED))
    assert "tensor 'blk.0.attn_q.weight': I2_S has a layout of x86 and one of Arm" in message


# ---- What is refused ----------------------------------------------------------

KEYS = {
    "no-architecture": (lambda v: v[1:], "'general.architecture' is missing and is not supported, only bitnet-b1.58"),
    "architecture": (lambda v: [value("general.architecture", STRING, "qwen3")] + v[1:], "'qwen3' is not supported"),
    "architecture-type": (lambda v: [value("general.architecture", U32, 3)] + v[1:], "'general.architecture' 3 is"),
}
CHANGES = {
    "missing": (dict(block_count=None), "'bitnet-b1.58.block_count': is missing"),
    "not-an-integer": (dict(embedding_length=(F32, 256.0)), "embedding_length': must be an integer from 1 to 131072"),
    "zero": (dict(context_length=(U32, 0)), "context_length': must be an integer from 1 to 16777216, not 0"),
    "epsilon": (dict(attention__layer_norm_rms_epsilon=(F32, 2.0)), "must be a number from 1e-12 to 0.1, not 2"),
    "no-epsilon": (dict(attention__layer_norm_rms_epsilon=None), "layer_norm_rms_epsilon': is missing"),
    "heads": (dict(attention__head_count_kv=(U32, 3)), "= 4 is not a multiple of 'attention.head_count_kv' = 3"),
    "width": (dict(embedding_length=(U32, 255)), "= 255 is not a multiple of 'attention.head_count' = 4"),
    "value-length": (dict(attention__value_length=(U32, 32)), "value_length': = 32 differs from the 64 of a key"),
    "partial-rotary": (dict(rope__dimension_count=(U32, 32)), "rope.dimension_count': = 32 differs from the 64"),
    "odd": (dict(attention__key_length=(U32, 63), rope__dimension_count=None), "= 63 is odd"),
    "wide": (dict(attention__head_count=(U32, 4096), attention__key_length=(U32, 64), attention__head_count_kv=None),
             "= 4096 times a key's 64 exceeds 131072"),
    "window": (dict(attention__sliding_window=(U32, 512)), "attention.sliding_window': = 512 is not supported, only 0"),
    "experts": (dict(expert_count=(U32, 8)), "expert_count': = 8 is not supported, only 0"),
    "rope-factor": (dict(rope__scaling__factor=(F32, 4.0)), "rope.scaling.factor': = 4 is not supported, only 1"),
    "rope-type": (dict(rope__scaling__type=(STRING, "yarn")), "rope.scaling.type': = 'yarn' is not supported"),
    "logit-scale": (dict(logit_scale=(F32, 0.5)), "logit_scale': = 0.5 is not supported, only 1"),
    "parallel": (dict(use_parallel_residual=(7, True)), "use_parallel_residual': = true is not supported, only 0"),
}


@pytest.mark.parametrize("name", KEYS)
def test_architecture(tmp_path, name):
    change, expected = KEYS[name]
    model = Model()
    gguf_model.write(tmp_path / "m.gguf", change(model.metadata()), model.tensors())
    assert expected in error(tmp_path / "m.gguf")


@pytest.mark.parametrize("name", CHANGES)
def test_keys(tmp_path, name):
    changes, expected = CHANGES[name]
    assert expected in error(Model().write_gguf(tmp_path / "m.gguf", **changes))


def f32_tensor(*shape):
    return 0, shape, bytes(4 * int(np.prod(shape)))


def spoil(name, at, data):
    def change(tensors):
        kind, shape, content = tensors[name]
        at_ = at % len(content)
        tensors[name] = kind, shape, content[:at_] + data + content[at_ + len(data):]
    return change


Q = "blk.0.attn_q.weight"
TENSORS = {
    "no-embedding": ("i2_s", lambda t: t.pop("token_embd.weight"), "has no tensor 'token_embd.weight'"),
    "missing": ("i2_s", lambda t: t.pop("blk.1.ffn_sub_norm.weight"), "has no tensor 'blk.1.ffn_sub_norm.weight'"),
    "extra": ("i2_s", lambda t: t.update({"rope_freqs.weight": f32_tensor(32)}), "'rope_freqs.weight': is not part of"),
    "bias": ("i2_s", lambda t: t.update({"blk.0.attn_q.bias": f32_tensor(256)}), "'blk.0.attn_q.bias': is not part of"),
    "more-layers": ("i2_s", lambda t: t.update({"blk.2.attn_norm.weight": f32_tensor(256)}),
                    "architecture 'bitnet-b1.58' and 2 layers"),
    "shape": ("i2_s", lambda t: t.update({"output_norm.weight": f32_tensor(128)}),
              "'output_norm.weight': has shape [128], but the metadata (embedding_length = 256) needs [256]"),
    "type": ("i2_s", lambda t: t.update({"output_norm.weight": (28, (256,), bytes(2048))}), "has type F64, which is not"),
    "ternary-norm": ("i2_s", lambda t: t.update({"output_norm.weight": (35, (256,), bytes(66))}),
                     "'output_norm.weight': has type TQ2_0, and only linear layers can be ternary"),
    "ternary-head": ("i2_s", lambda t: t.update({"output.weight": (35, (288, 256), bytes(66 * 288))}),
                     "'output.weight': has type TQ2_0, and only linear layers"),
    "scale-shape": ("i2_s", lambda t: t.update({"blk.0.attn_q.scale": f32_tensor(2)}), "must be one F32 number, not F32 of"),
    "scale-zero": ("i2_s", lambda t: t.update({"blk.0.attn_q.scale": f32_tensor(1)}), "is 0, no plausible scale"),
    "i2s-scale": ("i2_s", spoil(Q, -32, np.float32(np.nan).tobytes()), "'blk.0.attn_q.weight': its scale is"),
    "code-3": ("i2_s", spoil(Q, 37, b"\xff"), "row 0, column 133 has the invalid code 3; the file is damaged, or not of"),
    "code-3-tq2": ("tq2_0", spoil(Q, 66 + 1, b"\x30"), "row 1, column 65 has the invalid code 3"),
    "code-3-iq2": ("iq2_bn", spoil(Q, 4 + 16, b"\x0c"), "row 0, column 80 has the invalid code 3"),
    "nan-scale": ("tq1_0", spoil(Q, 54 + 52, b"\xff\x7f"), "row 1 has a scale that is infinite or not a number"),
    "infinite": ("f16", spoil(Q, 2, b"\0\x7c"), "row 0, column 1 is infinite or not a number"),
    "q4_0": ("i2_s", lambda t: t.update({Q: (2, (256, 256), random_blocks(Type.Q4_0, (256, 256), np.random.default_rng(0))[0])}),
             "has values other than -s, 0 and s, as Q4_0 cannot hold ternary weights"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(tmp_path, name):
    kind, change, expected = TENSORS[name]
    model = Model()
    tensors = model.tensors(TERNARY[kind])
    change(tensors)
    gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
    assert expected in error(tmp_path / "m.gguf", "--check")


def test_more_refusals(tmp_path):
    model = Model("llama", tied=False)
    latent = gguf_model.floats(Type.F16)(np.random.default_rng(0).normal(size=(256, 256)), 1.0)
    tensors = model.tensors()
    tensors[Q] = latent[0], (256, 256), latent[1]
    gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
    assert "this is an ordinary model, or one whose converter" in error(tmp_path / "m.gguf")

    model.scales["model.layers.0.self_attn.q_proj"] = np.linspace(0.5, 1, 256).reshape(-1, 1)
    tensors = model.tensors(TERNARY["iq2_bn"])
    tensors["blk.0.attn_q.scale"] = 0, (1,), np.float32(1).tobytes()
    gguf_model.write(tmp_path / "m.gguf", model.metadata(), tensors)
    assert "'blk.0.attn_q.scale': is a scale for a matrix that is not one of trits" in error(tmp_path / "m.gguf")

    signs = Model()
    signs.trits = {name: np.where(trits == 0, 1, trits) for name, trits in signs.trits.items()}
    assert "only 0 of 65536 weights are zero" in error(signs.write_gguf(tmp_path / "m.gguf"), "--check")


def test_llama_is_warned_about(tmp_path):
    def warnings(architecture):
        path = Model(architecture).write_gguf(tmp_path / "m.gguf")
        return subprocess.run([f"{BIN}/tercet", "compile", path, "--compile-to=import", "-o", tmp_path / "m.mlir"],
                              capture_output=True, text=True, check=True).stderr
    assert warnings("llama").startswith("tercet: warning: architecture 'llama' does not say how the model was trained")
    assert not warnings("bitnet-b1.58")
