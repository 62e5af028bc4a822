# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One random ternary model, as a Hugging Face directory and as .gguf files of
every kind. Scales are representable in all of them."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

import checkpoint
import gguf_file
from gguf_file import F32, STRING, U32, value

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB, LAYERS = 256, 512, 4, 2, 64, 288, 2

# Hugging Face's names, GGUF's, shapes, and the heads whose rows llama permutes.
LINEARS = {
    "self_attn.q_proj": ("attn_q", (HEADS * HEAD_DIM, HIDDEN), HEADS),
    "self_attn.k_proj": ("attn_k", (KV_HEADS * HEAD_DIM, HIDDEN), KV_HEADS),
    "self_attn.v_proj": ("attn_v", (KV_HEADS * HEAD_DIM, HIDDEN), 0),
    "self_attn.o_proj": ("attn_output", (HIDDEN, HEADS * HEAD_DIM), 0),
    "mlp.gate_proj": ("ffn_gate", (FFN, HIDDEN), 0),
    "mlp.up_proj": ("ffn_up", (FFN, HIDDEN), 0),
    "mlp.down_proj": ("ffn_down", (HIDDEN, FFN), 0),
}
NORMS = {
    "input_layernorm": ("attn_norm", HIDDEN),
    "post_attention_layernorm": ("ffn_norm", HIDDEN),
    "self_attn.attn_sub_norm": ("attn_sub_norm", HEADS * HEAD_DIM),
    "mlp.ffn_sub_norm": ("ffn_sub_norm", FFN),
}


# ---- Types ------------------------------------------------------------------

def codes(trits):
    return (np.asarray(trits) + 1).astype(np.uint8)


def planes(parts):
    """Bytes of four codes each, the first in the upper bits."""
    return (parts[0] << 6 | parts[1] << 4 | parts[2] << 2 | parts[3]).tobytes()


def i2_s(trits, scale, width=32):
    parts = codes(trits).reshape(-1, 4, width).swapaxes(0, 1)
    return 36, planes(parts) + np.float32(scale).tobytes() + bytes(28)


def i2_s_arm(trits, scale):
    return i2_s(trits, scale, width=16)


def i2_s_rows(trits, scale):
    parts = codes(trits).reshape(-1, 4, trits.shape[1]).swapaxes(0, 1)
    return 36, planes(parts) + np.float32(scale).tobytes() + bytes(28)


def row_scales(trits, scale, dtype):
    """A matrix' scale, or one for each row."""
    return np.broadcast_to(np.asarray(scale, dtype).reshape(-1, 1), (len(trits), 1))


def iq2_bn(trits, scale):
    parts = codes(trits).reshape(len(trits), -1, 4, 16)
    packed = parts[:, :, 0] | parts[:, :, 1] << 2 | parts[:, :, 2] << 4 | parts[:, :, 3] << 6
    rows = packed.reshape(len(trits), -1)
    return 135, b"".join(s.tobytes() + r.tobytes() for s, r in zip(row_scales(trits, scale, "<f4"), rows))


def iq1_bn(trits, scale):
    def number(digits):  # lowest first; the byte is the number's share of 3^5, of 256
        value = sum(digits[..., i].astype(int) * 3**i for i in range(digits.shape[-1]))
        return ((256 * value + 242) // 243).astype(np.uint8)

    sixteens = codes(trits).reshape(len(trits), -1, 4, 16)
    low = number(sixteens[..., :15].reshape(len(trits), -1, 12, 5))
    last = number(sixteens[..., 15])
    rows = np.concatenate([low, last[..., None]], axis=-1).reshape(len(trits), -1)
    return 134, b"".join(s.tobytes() + r.tobytes() for s, r in zip(row_scales(trits, scale, "<f2"), rows))


def floats(kind):
    """Trits times the scale: one, of rows, or of blocks of 256 columns."""
    def encode(trits, scale):
        scale = np.asarray(scale, np.float32)
        values = np.asarray(trits, np.float32)
        if scale.ndim == 2 and scale.shape[1] > 1:
            scale = np.repeat(scale, 256, axis=1)
        return int(kind), gguf.quants.quantize(np.ascontiguousarray(values * scale), kind).tobytes()
    return encode


TERNARY = {
    "i2_s": i2_s,
    "tq1_0": floats(Type.TQ1_0),
    "tq2_0": floats(Type.TQ2_0),
    "iq1_bn": iq1_bn,
    "iq2_bn": iq2_bn,
    "f32": floats(Type.F32),
    "f16": floats(Type.F16),
    "bf16": floats(Type.BF16),
    "q8_0": floats(Type.Q8_0),
}


# Elements and bytes of a block, and where its f16s are.
BLOCKS = {Type.Q4_0: (32, 18, [0]), Type.Q4_1: (32, 20, [0, 2]), Type.Q5_0: (32, 22, [0]), Type.Q5_1: (32, 24, [0, 2]),
          Type.Q8_0: (32, 34, [0]), Type.Q4_K: (256, 144, [0, 2]), Type.Q5_K: (256, 176, [0, 2]),
          Type.Q6_K: (256, 210, [208])}


def random_blocks(kind, shape, rng):
    """Floats of a quantised type, as bytes, and what ggml dequantises them to."""
    size, width, halves = BLOCKS[kind]
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // size, width), np.uint8)
    for at in halves:
        blocks[:, at:at + 2] = rng.uniform(-0.05, 0.05, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    values = gguf.quants.dequantize(blocks.reshape(shape[0], -1), kind).reshape(shape)
    return blocks.tobytes(), values


# ---- The model --------------------------------------------------------------

class Model:
    """Contents by Hugging Face's names; tests change them before they write."""

    def __init__(self, architecture="bitnet-b1.58", tied=True, seed=0):
        rng = np.random.default_rng(seed)
        self.architecture, self.tied = architecture, tied
        self.is_bitnet = architecture.startswith("bitnet")
        # Of seven bits, times 127: exact in bf16, f16, and as d * 127 of Q8_0.
        self.trits, self.scales, self.floats = {}, {}, {}
        for layer in range(LAYERS):
            prefix = f"model.layers.{layer}."
            for name, (_, shape, _) in LINEARS.items():
                self.trits[prefix + name] = rng.integers(-1, 2, shape).astype(np.int8)
                self.scales[prefix + name] = float(rng.integers(64, 128)) / 128
            for name, (_, size) in NORMS.items():
                if self.is_bitnet or "sub_norm" not in name:
                    self.floats[prefix + name] = rng.uniform(0.5, 1.5, size).astype(np.float32)
        self.floats["model.norm"] = rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)
        self.floats["model.embed_tokens"] = rng.normal(size=(VOCAB, HIDDEN)).astype(np.float32)
        if not tied:
            self.floats["lm_head"] = rng.normal(size=(VOCAB, HIDDEN)).astype(np.float32)

    def config(self):
        changes = dict(hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                       num_key_value_heads=KV_HEADS, vocab_size=VOCAB, tie_word_embeddings=self.tied)
        if not self.is_bitnet:
            changes.update(architectures=["LlamaForCausalLM"], model_type="llama")
        if self.architecture in ("bitnet", "llama"):
            changes.update(hidden_act="silu")
        return checkpoint.config(**changes)

    def write_directory(self, directory):
        contents = {f"{name}.weight": checkpoint.f32(values) for name, values in self.floats.items()}
        for name, trits in self.trits.items():
            contents[f"{name}.weight"] = checkpoint.packed(trits)
            contents[f"{name}.weight_scale"] = checkpoint.f32([self.scales[name]])
        return checkpoint.write(directory, contents, self.config())

    def metadata(self, **changes):
        """Keys of the architecture; None removes one."""
        keys = {
            "block_count": (U32, LAYERS),
            "context_length": (U32, 64),
            "embedding_length": (U32, HIDDEN),
            "feed_forward_length": (U32, FFN),
            "attention.head_count": (U32, HEADS),
            "attention.head_count_kv": (U32, KV_HEADS),
            "attention.layer_norm_rms_epsilon": (F32, 1e-5),
            "rope.freq_base": (F32, 500000.0),
            "rope.dimension_count": (U32, HEAD_DIM),
            **{name.replace("__", "."): entry for name, entry in changes.items()},
        }
        return [value("general.architecture", STRING, self.architecture)] + [
            value(f"{self.architecture}.{name}", *entry) for name, entry in keys.items() if entry]

    def permute(self, rows, heads):
        """As converters order the rows of q and k for llama."""
        if self.is_bitnet or not heads:
            return rows
        return rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)

    def tensors(self, encode=i2_s, encode_float=None):
        """GGUF's tensors, name -> (type, shape, bytes), as files order them."""
        def float_tensor(name, values):
            kind, data = (0, values.astype("<f4").tobytes())
            if encode_float and values.ndim == 2:
                kind, data = encode_float(name, values)
            return kind, values.shape, data

        result = {"token_embd.weight": float_tensor("token_embd", self.floats["model.embed_tokens"])}
        for layer in range(LAYERS):
            prefix, block = f"model.layers.{layer}.", f"blk.{layer}."
            for name, (short, _) in NORMS.items():
                if prefix + name in self.floats:
                    result[f"{block}{short}.weight"] = float_tensor(short, self.floats[prefix + name])
            for name, (short, shape, heads) in LINEARS.items():
                scale = np.asarray(self.scales[prefix + name])
                scale = self.permute(scale, heads) if scale.ndim else scale
                kind, data = encode(self.permute(self.trits[prefix + name], heads), scale)
                result[f"{block}{short}.weight"] = kind, shape, data
        result["output_norm.weight"] = float_tensor("output_norm", self.floats["model.norm"])
        if not self.tied:
            result["output.weight"] = float_tensor("output", self.floats["lm_head"])
        return result

    def write_gguf(self, path, encode=i2_s, encode_float=None, more=(), **changes):
        write(path, self.metadata(**changes) + list(more), self.tensors(encode, encode_float))
        return path


def write(path, values, tensors):
    """`tensors` as Model.tensors() gives them."""
    entries, data = [], b""
    for name, (kind, shape, content) in tensors.items():
        entries.append(gguf_file.tensor(name, shape, kind, len(data)))
        data += content + bytes(-len(content) % 32)
    path.write_bytes(gguf_file.encode(values, entries, data))
