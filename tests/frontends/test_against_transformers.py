# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The imported module, interpreted, against transformers on the same files.

Two correct evaluations in float differ where a rounding tie flips one
quantised activation, and a flip avalanches. These models quantise so few
activations that most of them see no flip: three quarters must agree to 1e-5.
"""

import os
import subprocess

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # no C++ compiler at test time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoint import config, f32, llama_config, tensors, write  # noqa: E402
from test_import import ONLINE  # noqa: E402

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-reference")

TOKENS = [1, 7, 39, 0, 22, 13, 7, 5]
SEEDS = range(4)
SUB_NORMS = ("attn_sub_norm", "ffn_sub_norm")
FAMILIES = {
    "bitnet-packed": ("packed", SUB_NORMS, config(torch_dtype="float32")),
    "bitnet-latent": ("latent", SUB_NORMS, config(quantization_config=ONLINE)),
    "bitnet-untied": ("packed", SUB_NORMS, config(tie_word_embeddings=False)),
    "llama-packed": ("packed", None, llama_config()),
    "llama-latent": ("latent", None, llama_config(quantization_config={**ONLINE, "modules_to_not_convert": ["lm_head"]})),
    "llama-head-dim": ("packed", None, llama_config(head_dim=8, rms_norm_eps=1e-6, rope_theta=1000042.0)),
    "llama-some-float": ("latent", None, llama_config(quantization_config={**ONLINE, "modules_to_not_convert": ["lm_head", "down_proj"]})),
}


def ours(model):
    output = model / "logits.npy"
    subprocess.run([TOOL, "--tokens=" + ",".join(map(str, TOKENS)), f"--logits={output}", model], check=True, timeout=60)
    return np.load(output)


def theirs(model):
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        return loaded(torch.tensor([TOKENS])).logits[0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits(tmp_path, family):
    kind, norms, fields = FAMILIES[family]
    errors = []
    for seed in SEEDS:
        head = not fields["tie_word_embeddings"]
        model = write(tmp_path / str(seed), tensors(kind, norms, head, encode=f32, seed=seed), fields)
        expected = theirs(model)
        errors.append(np.abs(ours(model) - expected).max() / np.ptp(expected))
    assert np.quantile(errors, 0.75) < 1e-5, errors


def test_1bitllm_differs_by_names_only(tmp_path):
    new = tensors("latent")
    old = {name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm"): tensor
           for name, tensor in new.items()}
    fields = dict(hidden_act="silu", quantization_config=None)
    a = ours(write(tmp_path / "new", new, config(**fields)))
    b = ours(write(tmp_path / "old", old, config(architectures=["BitnetForCausalLM"], model_type="llama", **fields)))
    assert (a == b).all()
