# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes what converters write: tokenizers as metadata of a .gguf file, with
the smallest model around them that llama.cpp loads."""

import json

import gguf
import numpy as np

TYPE = gguf.TokenType
WIDTH = 32


def write(path, fields):
    """`fields` are calls of GGUFWriter, by name without "add_"."""
    vocab_size = len(fields["token_list"])
    writer = gguf.GGUFWriter(str(path), "llama")
    sizes = dict(context_length=128, embedding_length=WIDTH, block_count=1, feed_forward_length=WIDTH,
                 head_count=1, head_count_kv=1, layer_norm_rms_eps=1e-5, rope_dimension_count=WIDTH,
                 vocab_size=vocab_size)
    for name, value in {**sizes, **fields}.items():
        getattr(writer, "add_" + name)(value)

    def tensor(name, *shape):
        writer.add_tensor(name + ".weight", np.ones(shape, np.float32))

    for name in ("token_embd", "output"):
        tensor(name, vocab_size, WIDTH)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensor(name, WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        tensor("blk.0." + name, WIDTH, WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_level(tokenizer, pre):
    """The fields of a byte-level BPE of Hugging Face tokenizers, whose first tokens are BOS and EOS."""
    state = json.loads(tokenizer.to_str())
    added = {token["id"]: token for token in state["added_tokens"]}
    contents = {**{i: c for c, i in state["model"]["vocab"].items()}, **{i: t["content"] for i, t in added.items()}}
    types = [TYPE.NORMAL if i not in added else TYPE.CONTROL if added[i]["special"] else TYPE.USER_DEFINED
             for i in range(len(contents))]
    around = tokenizer.encode("").ids
    return dict(add_bos_token=0 in around, add_eos_token=1 in around, tokenizer_model="gpt2", tokenizer_pre=pre,
                token_list=[contents[i] for i in range(len(contents))], token_types=types,
                token_merges=[" ".join(pair) for pair in state["model"]["merges"]], bos_token_id=0, eos_token_id=1)


def sentencepiece(model):
    """The fields of a BPE model of sentencepiece."""
    ids = range(model.get_piece_size())
    types = [TYPE.UNKNOWN if model.is_unknown(i) else TYPE.CONTROL if model.is_control(i) else
             TYPE.BYTE if model.is_byte(i) else TYPE.UNUSED if model.is_unused(i) else TYPE.NORMAL for i in ids]
    return dict(tokenizer_model="llama", tokenizer_pre="default", token_list=[model.id_to_piece(i) for i in ids],
                token_scores=[model.get_score(i) for i in ids], token_types=types, bos_token_id=model.bos_id(),
                eos_token_id=model.eos_id(), unk_token_id=model.unk_id())
