# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random models of transformers' own classes, saved as real checkpoints are.

Norm weights are away from 1 and every matrix has its own scale, so that a norm or
a scale that goes missing or to the wrong place shows. Three storages:

    offline  2-bit codes by transformers' own packer, output times weight_scale
    divide   the same codes, output divided by weight_scale
    online   bf16 master weights, quantised by whoever loads them
"""

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # no C++ compiler at test time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers.integrations.bitnet import pack_weights  # noqa: E402

transformers.utils.logging.disable_progress_bar()
BIN = Path(os.environ["TERCET_BIN_DIR"])
SHARD_BYTES = 100_000


@dataclass(frozen=True)
class Shape:
    family: str = "bitnet"
    storage: str = "offline"
    heads: int = 2
    kv_heads: int = 2
    head_dim: int = 64
    hidden: int = 0  # 0: heads * head_dim, which BitNet requires
    ffn: int = 200
    vocab: int = 199
    layers: int = 2
    tied: bool = True
    theta: float = 10000.0
    theta_key: str = "rope_theta"  # or "rope_parameters"
    eps: float = 1e-5
    context: int = 512
    sharded: bool = False

    @property
    def width(self):
        return self.hidden or self.heads * self.head_dim

    def quantised_activations(self, tokens):
        """Inputs of BitLinear: q, k, v share one; so do gate and up."""
        return tokens * self.layers * (2 * self.width + self.heads * self.head_dim + self.ffn)


def bitnet(storage="offline", **fields):
    return Shape("bitnet", storage, **fields)


def llama(storage="divide", **fields):
    return Shape("llama", storage, **{"tied": False, **fields})


# Every value that the kernels treat apart: heads a KV head, head_dim, widths that
# are no multiple of 16, 64, 80 or 128, a vocabulary and a context that are none.
SHAPES = {
    "bitnet-1to1": bitnet(heads=2, kv_heads=2, ffn=344),
    "bitnet-4to1-shards": bitnet(heads=4, kv_heads=1, ffn=692, vocab=513, sharded=True),
    "bitnet-8to1-untied": bitnet(heads=8, kv_heads=1, ffn=200, vocab=130, tied=False),
    "bitnet-head128": bitnet(heads=4, kv_heads=1, head_dim=128, ffn=1036, theta=5e5),
    "bitnet-head256": bitnet(heads=2, kv_heads=1, head_dim=256, theta_key="rope_parameters"),
    "bitnet-head80": bitnet(heads=3, kv_heads=3, head_dim=80, ffn=268, context=509),
    "bitnet-odd": bitnet(heads=5, kv_heads=5, head_dim=12, ffn=92, vocab=61, context=501),
    "bitnet-divide": bitnet("divide", heads=4, kv_heads=2, head_dim=36, ffn=380),
    "bitnet-online": bitnet("online", heads=4, kv_heads=1, ffn=300, sharded=True),
    "bitnet-online-odd": bitnet("online", heads=3, kv_heads=1, head_dim=22, ffn=91, tied=False),
    "llama-head256": llama(heads=4, kv_heads=2, head_dim=256, hidden=100, ffn=172, eps=1e-6, theta=1000042.0),
    "llama-1to1-tied": llama(heads=4, kv_heads=4, head_dim=64, hidden=164, ffn=236, tied=True),
    "llama-8to1": llama(heads=8, kv_heads=1, head_dim=64, hidden=168, ffn=84, theta_key="rope_parameters"),
    "llama-head128-shards": llama(heads=2, kv_heads=1, head_dim=128, ffn=700, vocab=1001, sharded=True),
    "llama-online": llama("online", heads=4, kv_heads=2, head_dim=32, hidden=120, ffn=333, context=503),
}


def small(seed):
    """The `seed`-th of many small models that all differ."""
    base = list(SHAPES.values())[seed % len(SHAPES)]
    heads = base.heads // base.kv_heads
    return replace(base, heads=heads, kv_heads=1, head_dim=min(base.head_dim, 32), hidden=base.hidden and 4 * heads * (10 + seed % 7),
                   ffn=96 + 4 * seed, vocab=50 + seed, context=64, layers=1 + seed % 3,
                   sharded=False)


def make_model(shape, seed=0):
    """The model in fp32, with master weights."""
    torch.manual_seed(seed)
    classes = {"bitnet": (transformers.BitNetConfig, transformers.BitNetForCausalLM),
               "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM)}
    config_class, model_class = classes[shape.family]
    model = model_class(config_class(
        hidden_size=shape.width, intermediate_size=shape.ffn, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim,
        vocab_size=shape.vocab, tie_word_embeddings=shape.tied, max_position_embeddings=shape.context,
        rms_norm_eps=shape.eps, bos_token_id=0, eos_token_id=1,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.uniform_(0.5, 1.5)
            elif "embed" in name or "lm_head" in name:
                weight.normal_()
            else:  # attention scores of order 1, each matrix with its own scale
                weight.normal_(std=float(torch.empty(1).uniform_(0.5, 2)) * weight.shape[1] ** -0.5)
    return model.to(torch.bfloat16).eval()


def is_bit_linear(name):
    return "_proj." in name


def pack(state, storage):
    """What transformers loads as AutoBitLinear offline, or as BitLinear."""
    result = {}
    for name, weight in state.items():
        result[name] = weight
        if is_bit_linear(name):
            mean = weight.float().abs().mean()
            result[name] = pack_weights((weight.float() / mean).round().clamp(-1, 1))
            scale = mean if storage == "offline" else 1 / mean
            result[name + "_scale"] = scale.reshape(1).to(torch.bfloat16)
    return result


def quantization_config(storage):
    fields = {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}
    if storage != "divide":
        fields.update(linear_class="autobitlinear", quantization_mode=storage)
    return fields


def make(directory, shape, seed=0):
    """Writes a checkpoint; returns its directory."""
    model = make_model(shape, seed)
    state = {k: v for k, v in model.state_dict().items() if not (shape.tied and k == "lm_head.weight")}
    if shape.storage != "online":
        state = pack(state, shape.storage)
    model.save_pretrained(directory, state_dict=state, max_shard_size=SHARD_BYTES if shape.sharded else "1GB")
    assert (directory / "model.safetensors").exists() != shape.sharded

    path = directory / "config.json"
    fields = json.loads(path.read_text())
    fields["quantization_config"] = quantization_config(shape.storage)
    if shape.theta_key == "rope_theta":
        fields["rope_theta"] = fields.pop("rope_parameters")["rope_theta"]
    path.write_text(json.dumps(fields, indent=2))
    return directory


def prompt(shape, length, seed=0):
    return [int(t) for t in np.random.default_rng([seed, length]).integers(shape.vocab, size=length)]


def run(*command, timeout=300):
    """Output of a command that must succeed in silence about errors."""
    result = subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=timeout)
    assert result.returncode == 0, f"{command}: {result.stderr[-2000:]}"
    return result.stdout


def compile_model(model, output, *options):
    run(BIN / "tercet", "compile", model, "-o", output, *options)
    return output


def logits(program, tokens, *options):
    """[tokens, vocabulary] as a compiled model computes them."""
    path = Path(f"{program}.logits.npy")
    run(program, "--tokens", ",".join(map(str, tokens)), "--logits", path, *options)
    return np.load(path)
