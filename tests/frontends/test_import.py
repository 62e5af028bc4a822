# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a checkpoint becomes, by family and by how its weights are stored."""

import os
import re
import subprocess

import numpy as np
import pytest

import checkpoint
from checkpoint import LAYERS, config, llama_config, tensors, write, write_shards

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-import")
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}


def run_import(model, *options):
    result = subprocess.run([TOOL, *options, model], text=True, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return result.stdout


def count(module, op):
    return len(re.findall(rf"\bternary\.{op}\b", module))


def scale_of(module, weight):
    """The constant that multiplies a packed matrix."""
    value = re.search(rf"(%\w+) = ternary.get_parameter @{weight} ", module)[1]
    scale = re.search(rf"bit_linear ins\(%\w+, {value} scales (%\w+) ", module)[1]
    return np.float32(re.search(rf"{scale} = arith.constant (\S+) : f32", module)[1])


def stored_scale(contents, name):
    """The f64 value of a bf16 weight_scale."""
    word = np.frombuffer(contents[name + "_scale"][2], "<u2").astype("<u4") << 16
    return float(word.view("<f4")[0])


def test_bitnet_packed_multiplies(tmp_path):
    contents = tensors()
    module = run_import(write(tmp_path / "m", contents, config()))
    assert count(module, "bit_linear") == 7 * LAYERS
    assert count(module, "rms_norm") == 4 * LAYERS + 1
    assert count(module, "attention") == count(module, "kv_update") == LAYERS
    assert count(module, "gated_activation +relu2") == LAYERS
    assert count(module, "rope ins") == 2 * LAYERS
    assert module.count("linalg.add") == 2 * LAYERS
    assert "!ternary.kv_cache<layers = 2, heads = 2, context = 64, head_dim = 8>" in module
    assert "@rope_table : tensor<64x8xf32> = #ternary.rope_table<5.000000e+05 : f64>" in module
    # Tied: the embedding is the head, and there is one copy of it.
    assert re.search(r"@model.embed_tokens.weight : tensor<40x32xbf16> = #ternary.source<.*, bf16>", module)
    assert module.count("get_parameter @model.embed_tokens.weight") == 2
    assert re.search(r"q_proj.weight : tensor<32x32xi2> = #ternary.source<.* size = 256, hf_packed>", module)
    name = "model.layers.1.mlp.up_proj.weight"
    assert scale_of(module, name) == np.float32(stored_scale(contents, name))


def test_bitlinear_divides(tmp_path):
    contents = tensors(norms=None, head=True)
    module = run_import(write(tmp_path / "m", contents, llama_config()))
    assert count(module, "rms_norm") == 2 * LAYERS + 1
    assert count(module, "gated_activation +silu") == LAYERS
    assert "get_parameter @lm_head.weight" in module
    name = "model.layers.0.self_attn.o_proj.weight"
    assert scale_of(module, name) == np.float32(1 / stored_scale(contents, name))


@pytest.mark.parametrize("encode", [checkpoint.bf16, checkpoint.f16, checkpoint.f32])
@pytest.mark.parametrize("quantization", [None, ONLINE])
def test_latent_weights_are_quantised(tmp_path, encode, quantization):
    contents = tensors("latent", encode=encode)
    module = run_import(write(tmp_path / "m", contents, config(quantization_config=quantization)))
    assert count(module, "absmean_quantize") == count(module, "bit_linear") == 7 * LAYERS
    element = encode.__name__
    assert f"@model.embed_tokens.weight : tensor<40x32x{element}>" in module
    assert re.search(rf"@model.norm.weight : tensor<32xf32> = .* {element}>", module)


def test_1bitllm(tmp_path):
    fields = config(architectures=["BitnetForCausalLM"], model_type="llama", hidden_act="silu",
                    quantization_config=None, weight_bits=1, input_bits=8)
    module = run_import(write(tmp_path / "m", tensors("latent", ("inner_attn_ln", "ffn_layernorm")), fields))
    assert "@model.layers.0.mlp.ffn_layernorm.weight" in module
    assert count(module, "rms_norm") == 4 * LAYERS + 1


@pytest.mark.parametrize("key", ["model.layers.1", "down_proj", r"model\.layers\..*\.down_proj"])
def test_modules_to_not_convert_stay_float(tmp_path, key):
    fields = config(quantization_config={**ONLINE, "modules_to_not_convert": ["lm_head", key]})
    module = run_import(write(tmp_path / "m", tensors("latent"), fields))
    kept = 7 if key == "model.layers.1" else LAYERS
    assert count(module, "bit_linear") == 7 * LAYERS - kept
    assert count(module, "linear") == kept + 1


def test_shards_hold_the_same_model(tmp_path):
    contents = tensors(head=True)
    fields = config(tie_word_embeddings=False)
    write_shards(tmp_path / "shards", contents, fields, num_shards=3)
    one = run_import(write(tmp_path / "one", contents, fields))
    three = run_import(tmp_path / "shards")
    anonymous = lambda module: re.sub(r'<".*?", offset = \d+', "", module)
    assert anonymous(one) == anonymous(three)
    assert one == run_import(tmp_path / "one" / "model.safetensors")


@pytest.mark.parametrize("rope", [
    {"rope_theta": 1e4},
    {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    {"rope_theta": 1e4, "rope_scaling": {"type": "default"}},
])
def test_rope_theta_has_two_places(tmp_path, rope):
    assert "#ternary.rope_table<1.000000e+04 : f64>" in run_import(write(tmp_path / "m", tensors(), config(**rope)))


def test_context_option(tmp_path):
    model = write(tmp_path / "m", tensors(), config())
    module = run_import(model, "--context=16")
    assert "context = 16" in module and "tensor<16x8xf32>" in module


def test_what_changes_nothing_is_tolerated(tmp_path):
    contents = tensors()
    contents["model.layers.0.self_attn.rotary_emb.inv_freq"] = checkpoint.f32(np.ones(4))
    contents["lm_head.weight"] = contents["model.embed_tokens.weight"]
    fields = config(attention_bias=False, attention_dropout=0.1, pretraining_tp=1, rope_scaling={},
                    sliding_window=None, torch_dtype="bfloat16", auto_map={})
    model = write(tmp_path / "m", contents, fields)
    text = (model / "config.json").read_text()
    # Real configs have this key twice; the last one counts, as in Python.
    (model / "config.json").write_text('{"quantization_config": {"quant_method": "other"}, ' + text[1:])
    run_import(model)


def test_scalar_scales_of_any_float(tmp_path):
    contents = tensors()
    name = "model.layers.0.self_attn.q_proj.weight"
    for encode, value in ((checkpoint.f32, 0.3), (checkpoint.f16, 0.25), (checkpoint.bf16, 0.5)):
        contents[name + "_scale"] = encode(value)
        assert contents[name + "_scale"][1] == []
        module = run_import(write(tmp_path / "m", contents, config()))
        assert scale_of(module, name) == np.float32(value)
