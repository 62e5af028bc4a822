#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes a .gguf file of the exact shape of microsoft/bitnet-b1.58-2B-4T.

Random trits as TQ2_0 and a random embedding of a type, which is the head as well: for
measuring the speed of heads, not for text. 0.8 to 1.2 GB; no tokenizer.

    python3 tests/bench/make_2b_gguf.py FILE [--embedding F16|Q4_0|Q4_K|Q6_K|Q8_0|...]
"""
import argparse
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 30, 2560, 6912, 20, 5, 128, 128256
MATRICES = {
    "attn_q": (HEADS * HEAD_DIM, HIDDEN),
    "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD_DIM),
    "ffn_gate": (FFN, HIDDEN),
    "ffn_up": (FFN, HIDDEN),
    "ffn_down": (HIDDEN, FFN),
}
NORMS = {"attn_norm": HIDDEN, "ffn_norm": HIDDEN, "attn_sub_norm": HIDDEN, "ffn_sub_norm": FFN}
# Where a block has f16s.
HALVES = {Type.Q4_1: (0, 2), Type.Q5_1: (0, 2), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}


def tq2_0(rng, rows, columns):
    """Random trits; one scale, 1."""
    codes = np.array([sum((n // 3**i % 3) << 2 * i for i in range(4)) for n in range(81)], np.uint8)
    blocks = np.empty((rows, columns // 256, 66), np.uint8)
    blocks[..., :64] = codes[rng.integers(0, 81, blocks[..., :64].shape, np.uint8)]
    blocks[..., 64:] = np.frombuffer(np.float16(1).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def embedding(rng, kind):
    """Random codes; scales that make weights about 0.02."""
    if kind in (Type.F16, Type.F32):
        dtype = np.float16 if kind == Type.F16 else np.float32
        return (rng.standard_normal((VOCAB, HIDDEN), np.float32) * 0.02).astype(dtype)
    size, size_in_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (VOCAB, HIDDEN // size, size_in_bytes), np.uint8)
    for at in HALVES.get(kind, (0,)):
        halves = rng.uniform(1e-5, 2e-5, blocks.shape[:2]).astype("<f2")
        blocks[..., at:at + 2] = halves.view(np.uint8).reshape(*blocks.shape[:2], 2)
    return blocks.reshape(VOCAB, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--embedding", default="Q6_K")
    arguments = parser.parse_args()
    kind = Type[arguments.embedding]

    writer = gguf.GGUFWriter(arguments.file, "bitnet-b1.58")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    rng = np.random.default_rng(0)
    writer.add_tensor("token_embd.weight", embedding(rng, kind), raw_dtype=kind)
    for layer in range(LAYERS):
        for name, (rows, columns) in MATRICES.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", tq2_0(rng, rows, columns), raw_dtype=Type.TQ2_0)
        for name, size in NORMS.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", rng.uniform(0.5, 1.5, size).astype(np.float32))
    writer.add_tensor("output_norm.weight", rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
