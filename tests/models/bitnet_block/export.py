#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One transformer block of BitNet, exported from transformers.

    python tests/models/bitnet_block/export.py OUT

writes OUT/block.{legacy,dynamo}.onnx: hidden states [1, tokens, 256] in and out,
random weights, quantised in the graph as transformers' AutoBitLinear does online.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # no C++ compiler needed

import torch
from transformers import BitNetConfig
from transformers.integrations.bitnet import AutoBitLinear
from transformers.models.bitnet import modeling_bitnet

CONFIG = BitNetConfig(hidden_size=256, intermediate_size=640, num_attention_heads=4,
                      num_key_value_heads=2, num_hidden_layers=1, vocab_size=8,
                      attn_implementation="eager")


class Block(torch.nn.Module):
    """A decoder layer with the positions and the causal mask it needs."""

    def __init__(self):
        super().__init__()
        self.rope = modeling_bitnet.BitNetRotaryEmbedding(CONFIG)
        self.layer = modeling_bitnet.BitNetDecoderLayer(CONFIG, layer_idx=0)
        for parent in (self.layer.self_attn, self.layer.mlp):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.Linear):
                    linear = AutoBitLinear(child.in_features, child.out_features,
                                           bias=False, online_quant=True)
                    linear.weight = child.weight
                    setattr(parent, name, linear)

    def forward(self, hidden):
        tokens = hidden.shape[1]
        positions = torch.arange(tokens).unsqueeze(0)
        mask = torch.full((tokens, tokens), float("-inf")).triu(1)
        return self.layer(hidden, attention_mask=mask[None, None],
                          position_embeddings=self.rope(hidden, positions))


def export(out):
    torch.manual_seed(0)
    block = Block().eval()
    example = torch.randn(1, 6, CONFIG.hidden_size)
    names = {"input_names": ["hidden"], "output_names": ["result"]}
    torch.onnx.export(block, (example,), out / "block.legacy.onnx", dynamo=False,
                      opset_version=18, dynamic_axes={"hidden": {1: "tokens"}, "result": {1: "tokens"}},
                      **names)
    torch.onnx.export(block, (example,), out / "block.dynamo.onnx", dynamo=True,
                      opset_version=18, external_data=False, verbose=False,
                      dynamic_shapes=({1: torch.export.Dim("tokens", min=2)},), **names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    export(out)


if __name__ == "__main__":
    main()
