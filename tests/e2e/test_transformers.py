# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Executables against transformers' BitNet classes.

Two correct evaluations in float differ where a rounding tie flips one quantised
activation, and a flip avalanches: a tolerance on logits proves nothing. So:

1. op by op, each on the other implementation's own inputs (docs/verify.md);
2. end to end on models so small that most of them see no flip;
3. end to end on larger ones, with transformers in fp64 as the judge: we may be no
   further from it than transformers in fp32 is.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from checkpoints import BIN, SHAPES, compile_model, logits, make, prompt, run, small, torch

from dump_reference import load, write_dump
from torch.utils._python_dispatch import TorchDispatchMode

LENGTHS = (1, 7, 64, 500)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Checkpoints by name, made once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = make(tmp_path_factory.mktemp(name) / "model", SHAPES[name])
        return made[name]
    return get


class Doubles(TorchDispatchMode):
    """Casts to fp32, which transformers writes into its classes, become fp64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") == torch.float32:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def evaluate(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()


def evaluate_double(model, tokens):
    """The same model in fp64. The table of rotations is part of the model: HF
    rounds its angles to fp32, and so it stays."""
    rotary = model.model.rotary_emb
    cos, sin = rotary(torch.zeros(1), torch.arange(len(tokens))[None])
    double = model.double()
    double.model.rotary_emb.forward = lambda *_, **__: (cos.double(), sin.double())
    for module in double.modules():
        if isinstance(getattr(module, "dtype", None), torch.dtype) and hasattr(module, "activation_quant"):
            module.dtype = torch.float64
    with Doubles():
        result = evaluate(double, tokens)
    assert result.dtype == np.float64
    return result


# ---- 1. Op by op ------------------------------------------------------------

OPS = {"embedding", "rms_norm", "bit_linear", "attention", "gated_activation", "linear"}


@pytest.mark.parametrize("name", SHAPES)
def test_each_op_on_the_same_input(tmp_path, models, name):
    length = LENGTHS[list(SHAPES).index(name) % len(LENGTHS)]
    write_dump(load(models(name)), prompt(SHAPES[name], length), tmp_path)
    report = json.loads(run(BIN / "tercet", "verify", models(name), "--against", tmp_path, "--json"))
    checks = {check["name"]: check for check in report["checks"]}
    assert OPS <= set(checks)
    assert all(check["passed"] for check in checks.values())


# ---- 2. Small, end to end -----------------------------------------------------

def test_small_models_agree(tmp_path):
    errors = []
    for seed in range(40):
        shape = small(seed)
        length = min(LENGTHS[seed % 4], shape.context, 50_000 // shape.quantised_activations(1))
        model = make(tmp_path / f"model{seed}", shape, seed)
        program = compile_model(model, tmp_path / f"program{seed}")
        tokens = prompt(shape, length, seed)
        expected = evaluate(load(model), tokens)
        # The worst position of the model, in units of that position's range.
        error = np.abs(logits(program, tokens) - expected).max(axis=1) / np.ptp(expected, axis=1)
        errors.append(error.max())
    agree = np.mean(np.array(errors) < 1e-5)
    print(f"\n{agree:.3f} of {len(errors)} small models agree to 1e-5; worst {max(errors):.2e}")
    assert agree >= 0.75, errors


# ---- 3. Larger, end to end ------------------------------------------------------

def test_no_further_from_fp64_than_fp32_is(tmp_path):
    """Six layers and mostly 500 tokens, so that nearly every position has seen
    flips: where half of them have, the median would be a coin toss."""
    ours, theirs = [], []  # distances from fp64, one a position
    our_tokens, their_tokens = [], []  # whether the likeliest token is fp64's
    for seed, (name, shape) in enumerate(SHAPES.items()):
        model = make(tmp_path / name, replace(shape, layers=6), seed)
        program = compile_model(model, tmp_path / f"{name}.exe")
        for length in {LENGTHS[seed % 4], LENGTHS[-1]}:
            tokens = prompt(shape, length, seed)
            reference = load(model)
            got, single = logits(program, tokens), evaluate(reference, tokens)
            exact = evaluate_double(reference, tokens)
            for logit, errors, hits in ((got, ours, our_tokens), (single, theirs, their_tokens)):
                errors.extend(np.abs(logit - exact).max(axis=1) / np.ptp(exact, axis=1))
                hits.extend(logit.argmax(axis=1) == exact.argmax(axis=1))
    ratio = np.median(ours) / np.median(theirs)
    print(f"\nmedian distance from fp64 over {len(ours)} positions: ours {np.median(ours):.2e}, "
          f"fp32 {np.median(theirs):.2e}, ratio {ratio:.2f}; "
          f"likeliest token as in fp64: ours {np.mean(our_tokens):.4f}, fp32 {np.mean(their_tokens):.4f}")
    assert ratio <= 2
    assert 1 - np.mean(our_tokens) <= 2 * (1 - np.mean(their_tokens)) + 0.005
