#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Perplexity of a packed BitNet checkpoint in fp32 by transformers' own BitNet classes.

    python tests/e2e/perplexity_reference.py MODEL_DIR FILE [--context N] [--json]
    python tests/e2e/perplexity_reference.py MODEL_DIR --corpus persuasion

The oracle of a compiled binary's `--perplexity FILE [--context N]`. Protocol of both:

1. The bytes of FILE, as UTF-8, are tokenised once, without BOS, special tokens as text.
2. The ids are cut into consecutive windows of N - 1; the last one may be shorter.
3. Each window is prefixed with BOS and run by itself; every id of the window is
   predicted, the first one from BOS. The NLL is natural and summed over all ids.
4. nll_per_token = NLL / tokens; perplexity = exp of it;
   bits_per_byte = NLL / ln 2 / bytes of FILE.

Before evaluating, every packed tensor of model.safetensors is unpacked here a second
time, independently, and compared with what transformers built from it: exit status 1
if a code or a scale differs, if a code is 3, or if a linear layer is no BitLinear.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # transformers compiles its quantisers: same values, slow start

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # noqa: E402
from transformers.integrations.bitnet import AutoBitLinear, BitLinear  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
import corpus  # noqa: E402


class Mismatch(Exception):
    """transformers did not build what the checkpoint says."""


def unpack(packed):
    """[out/4, in] -> [out, in]: bits 2i..2i+1 of row r hold row r + i*out/4, code - 1."""
    codes = torch.cat([packed >> 2 * i & 3 for i in range(4)])
    if (codes == 3).any():
        raise Mismatch("code 3 in a packed tensor")
    return codes.to(torch.int8) - 1


def load(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    # from_pretrained leaves the unpacked tensors in the file's bf16: widen them, which is exact.
    torch.nn.Module.float(model)
    checked = 0
    with safe_open(directory / "model.safetensors", "pt") as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            if tensor.dtype != torch.uint8:
                continue
            module_name = name.removesuffix(".weight")
            module = model.get_submodule(module_name)
            if isinstance(module, AutoBitLinear):
                same = torch.equal(module.weight.to(torch.int8), unpack(tensor))
            elif isinstance(module, BitLinear):
                same = torch.equal(module.weight, tensor)
            else:
                raise Mismatch(f"{module_name} is a {type(module).__name__}")
            scale = file.get_tensor(f"{module_name}.weight_scale").float()
            if not same or not torch.equal(module.weight_scale.reshape(1), scale.reshape(1)):
                raise Mismatch(f"{module_name}: transformers' codes or scale are not the file's")
            checked += 1
    if not checked:
        raise Mismatch(f"{directory}: no packed tensor")
    return model, checked


@torch.no_grad()
def negative_log_likelihood(model, ids, bos, context, batch, progress):
    total, begin, width = 0.0, time.time(), context - 1
    windows = [ids[at : at + width] for at in range(0, len(ids), width)]
    full = [w for w in windows if len(w) == width]
    groups = [full[at : at + batch] for at in range(0, len(full), batch)]
    groups += [[w] for w in windows[len(full) :]]
    done = 0
    for group in groups:
        targets = torch.tensor(group)
        inputs = torch.cat([torch.full((len(group), 1), bos), targets[:, :-1]], 1)
        logits = model(inputs, use_cache=False).logits
        log_probabilities = logits.double().log_softmax(-1)
        total -= log_probabilities.gather(-1, targets[..., None]).sum().item()
        done += targets.numel()
        if progress:
            rate = done / (time.time() - begin)
            print(f"\r{done}/{len(ids)} tokens, {rate:.0f}/s ", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--corpus", choices=[*corpus.AUSTEN, "bible"], help="a text of tests/models/corpus.py instead of FILE")
    parser.add_argument("--context", type=int, help="default: max_position_embeddings")
    parser.add_argument("--max-bytes", type=int, help="only the first bytes of the text")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if (args.file is None) == (args.corpus is None):
        parser.error("give FILE or --corpus")
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        data = args.file.read_bytes() if args.file else corpus.text(args.corpus).encode()
        data = data[: args.max_bytes]
        text = data.decode()
        model, checked = load(args.model)
    except (OSError, ValueError, Mismatch) as error:
        print(f"perplexity_reference.py: {error}", file=sys.stderr)
        return 1
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    context = args.context or model.config.max_position_embeddings
    if not 2 <= context <= model.config.max_position_embeddings:
        parser.error(f"--context must be 2 to {model.config.max_position_embeddings}")
    if not ids:
        parser.error("the text is empty")
    nll = negative_log_likelihood(model, ids, model.config.bos_token_id, context, args.batch, sys.stderr.isatty())
    result = {
        "tokens": len(ids),
        "bytes": len(data),
        "context": context,
        "nll_per_token": nll / len(ids),
        "bits_per_byte": nll / math.log(2) / len(data),
        "perplexity": math.exp(nll / len(ids)),
        "packed_tensors_checked": checked,
    }
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:22} {value:.6f}" if isinstance(value, float) else f"{key:22} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
