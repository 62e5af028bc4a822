# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tiny checkpoints of every supported kind, made of random numbers.

A checkpoint is a dict of tensors, name -> (dtype, shape, bytes), and a config;
tests change either before they write it.
"""

import json
import struct

import numpy as np

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB, LAYERS = 32, 48, 4, 2, 8, 40, 2

SHAPES = {
    "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}


def bf16(values):
    """Truncates floats to bf16."""
    values = np.asarray(values, "<f4")
    return "BF16", list(values.shape), (values.view("<u4") >> 16).astype("<u2").tobytes()


def f16(values):
    values = np.asarray(values, "<f2")
    return "F16", list(values.shape), values.tobytes()


def f32(values):
    values = np.asarray(values, "<f4")
    return "F32", list(values.shape), values.tobytes()


def packed(trits):
    """Logical row r + i * rows/4 in bits 2i of packed row r, as w + 1."""
    codes = (np.asarray(trits) + 1).astype(np.uint8).reshape(4, -1, trits.shape[1])
    data = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
    return "U8", list(data.shape), data.tobytes()


def config(**changes):
    """A BitNet like microsoft/bitnet-b1.58-2B-4T; None removes a field."""
    fields = {
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_act": "relu2",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "vocab_size": VOCAB,
        "tie_word_embeddings": True,
        "max_position_embeddings": 64,
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
        },
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not None}


def llama_config(**changes):
    """A Llama like HF1BitLLM/Llama3-8B-1.58 and Falcon3."""
    return config(**{
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "quantization_config": {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]},
        **changes,
    })


def tensors(kind="packed", norms=("attn_sub_norm", "ffn_sub_norm"), head=False, encode=bf16, seed=0):
    """All tensors of a model whose BitLinears are "packed" or "latent"."""
    rng = np.random.default_rng(seed)
    result = {"model.embed_tokens.weight": encode(rng.normal(size=(VOCAB, HIDDEN)))}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        result[prefix + "input_layernorm.weight"] = encode(rng.uniform(0.5, 1.5, HIDDEN))
        result[prefix + "post_attention_layernorm.weight"] = encode(rng.uniform(0.5, 1.5, HIDDEN))
        if norms:
            result[f"{prefix}self_attn.{norms[0]}.weight"] = encode(rng.uniform(0.5, 1.5, HIDDEN))
            result[f"{prefix}mlp.{norms[1]}.weight"] = encode(rng.uniform(0.5, 1.5, FFN))
        for name, shape in SHAPES.items():
            if kind == "packed":
                result[prefix + name + ".weight"] = packed(rng.integers(-1, 2, shape))
                result[prefix + name + ".weight_scale"] = encode([rng.uniform(0.5, 2)])
            else:
                result[prefix + name + ".weight"] = encode(rng.normal(0, 0.02, shape))
    result["model.norm.weight"] = encode(np.ones(HIDDEN))
    if head:
        result["lm_head.weight"] = encode(rng.normal(size=(VOCAB, HIDDEN)))
    return result


def encode_file(contents, metadata=None):
    """The bytes of a .safetensors file; large elements first, as the library
    does it, so that all are aligned."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    width = {"F32": 4, "BF16": 2, "F16": 2}
    for name, (dtype, shape, raw) in sorted(contents.items(), key=lambda i: -width.get(i[1][0], 1)):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return with_header(json.dumps(header).encode(), data)


def with_header(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def write(directory, contents, fields):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(fields))
    (directory / "model.safetensors").write_bytes(encode_file(contents, {"format": "pt"}))
    return directory


def write_shards(directory, contents, fields, num_shards=2):
    """Returns the index, for tests that spoil it."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(fields))
    names = list(contents)
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        part = names[shard::num_shards]
        (directory / file).write_bytes(encode_file({name: contents[name] for name in part}))
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return index
