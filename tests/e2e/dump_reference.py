#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What transformers computes in a model, op by op, for `tercet verify --against`.

    python tests/e2e/dump_reference.py MODEL_DIR OUT_DIR [--tokens 1,2,3]

Runs transformers' own BitNet classes in fp32 on one sequence and writes the input
and output of every embedding, norm, BitLinear, attention, gate and head as .npy,
and manifest.json (docs/verify.md).
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # transformers compiles its quantisers: same values, slow start

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, logging  # noqa: E402
from transformers.integrations.bitnet import ActQuant, AutoBitLinear, BitLinear  # noqa: E402


def load(directory):
    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    torch.nn.Module.float(model)  # unpacked weights stay in the file's bf16 otherwise
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.dtype = torch.float32
    return model


def quantise(module, x):
    """The integers that this BitLinear multiplies, by its own code."""
    if isinstance(module, BitLinear):
        return module.activation_quant(x)[0]
    s = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
    return torch.round(ActQuant.apply(x) * s).to(torch.int8)


class Dump:
    """Hooks of a model; each writes one entry of the manifest."""

    def __init__(self, model, directory):
        self.model, self.directory = model, directory
        self.ops, self.outputs = [], {}
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Embedding):
                self.on(module, "embedding", name)
            elif isinstance(module, (BitLinear, AutoBitLinear)):
                self.on(module, "bit_linear", name)
            elif isinstance(module, torch.nn.Linear):
                self.on(module, "linear", name)
            elif "RMSNorm" in type(module).__name__:
                self.on(module, "rms_norm", name)
        for i, layer in enumerate(model.model.layers):
            prefix = f"model.layers.{i}."
            attention, mlp = layer.self_attn, layer.mlp
            # What attention and the gate computed is what the next module reads.
            self.before(getattr(attention, "attn_sub_norm", attention.o_proj), "attention",
                        prefix + "self_attn", ["q_proj", "k_proj", "v_proj"])
            self.before(getattr(mlp, "ffn_sub_norm", mlp.down_proj), "gated_activation",
                        prefix + "mlp", ["gate_proj", "up_proj"])

    def on(self, module, op, name):
        """Records a module's input and output."""
        def hook(module, args, output):
            x = args[0]
            extra = {"q": quantise(module, x)} if op == "bit_linear" else {}
            inputs = [] if op == "embedding" else [x]  # tokens are in the manifest
            self.outputs[name] = self.add(op, name, inputs, output, **extra)
        module.register_forward_hook(hook)

    def before(self, module, op, name, inputs):
        """Records what reaches `module` as the result of `op` on the outputs of `inputs`."""
        def hook(module, args):
            self.add(op, name, [self.outputs[f"{name}.{i}"] for i in inputs], args[0])
        module.register_forward_pre_hook(hook)

    def add(self, op, name, inputs, output, **extra):
        """Writes an entry; an input is a tensor or a file written before. Returns the output's file."""
        stem = f"{len(self.ops):04}_{op}_{name}"
        entry = {"op": op, "name": name, "inputs": [
            x if isinstance(x, str) else self.write(f"{stem}_in", x) for x in inputs]}
        entry["output"] = self.write(f"{stem}_out", output)
        for key, value in extra.items():
            entry[key] = self.write(f"{stem}_{key}", value)
        self.ops.append(entry)
        return entry["output"]

    def write(self, stem, tensor):
        array = tensor.detach()[0].numpy()
        np.save(self.directory / f"{stem}.npy", np.ascontiguousarray(array))
        return f"{stem}.npy"


def write_dump(model, tokens, directory):
    directory.mkdir(parents=True, exist_ok=True)
    dump = Dump(model, directory)
    with torch.no_grad():
        model(torch.tensor([tokens]), use_cache=False)
    manifest = {"format": "tercet-dump-1", "tokens": tokens, "ops": dump.ops}
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tokens", type=lambda s: [int(t) for t in s.split(",")], default=list(range(1, 33)))
    arguments = parser.parse_args()
    write_dump(load(arguments.model), arguments.tokens, arguments.output)


if __name__ == "__main__":
    main()
