#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes a checkpoint of the exact shape of microsoft/bitnet-b1.58-2B-4T.

Random trits in the packed Hugging Face layout, random embeddings: for measuring
compile time, memory and speed, not for text. 1.2 GB; --layers makes it smaller,
--positions allows longer contexts than the model's 4096, and --vocab leaves out
most of the head, to measure the rest.

    python3 tests/bench/make_2b_checkpoint.py DIR [--layers N] [--positions N]
        [--vocab N]
"""
import argparse
import json
import pathlib

import numpy as np

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM = 2560, 6912, 20, 5, 128


def bf16(values):
    """f32 to bf16 bit patterns, rounded to nearest even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def packed_trits(rng, rows, columns):
    """Random bytes without the invalid code 3: [rows / 4, columns] of u8."""
    codes = rng.integers(0, 81, (rows // 4, columns), np.uint8)
    table = np.array([sum((n // 3**i % 3) << 2 * i for i in range(4))
                      for n in range(81)], np.uint8)
    return table[codes]


def tensors(rng, layers, vocab):
    """Yields (name, dtype, array) in the order of the file."""
    yield "model.embed_tokens.weight", "BF16", bf16(
        rng.standard_normal((vocab, HIDDEN), np.float32) * 0.02)
    matrices = {
        "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
        "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
        "mlp.gate_proj": (FFN, HIDDEN),
        "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
    }
    norms = {
        "input_layernorm": HIDDEN,
        "post_attention_layernorm": HIDDEN,
        "self_attn.attn_sub_norm": HIDDEN,
        "mlp.ffn_sub_norm": FFN,
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name, (rows, columns) in matrices.items():
            yield f"{prefix}{name}.weight", "U8", packed_trits(rng, rows, columns)
            yield f"{prefix}{name}.weight_scale", "BF16", bf16(
                rng.uniform(0.5, 2.0, 1))
        for name, size in norms.items():
            yield f"{prefix}{name}.weight", "BF16", bf16(rng.uniform(0.5, 1.5, size))
    yield "model.norm.weight", "BF16", bf16(rng.uniform(0.5, 1.5, HIDDEN))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--vocab", type=int, default=128256)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    items = list(tensors(rng, arguments.layers, arguments.vocab))
    header, offset = {}, 0
    for name, dtype, array in items:
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(arguments.directory / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, _, array in items:
            array.tofile(file)
    config = {
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet",
        "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": arguments.layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "hidden_act": "relu2",
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": arguments.vocab,
        "tie_word_embeddings": True, "max_position_embeddings": arguments.positions,
        "bos_token_id": arguments.vocab - 256, "eos_token_id": arguments.vocab - 255, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "bitnet",
                                "linear_class": "autobitlinear",
                                "quantization_mode": "offline"},
    }
    (arguments.directory / "config.json").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    main()
