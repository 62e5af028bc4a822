# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Executables of .gguf files: the logits of the Hugging Face directory's, bit by
bit, and of llama.cpp, as far as it computes the same."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")
sys.path.append(str(Path(__file__).parents[1] / "frontends"))
import gguf_model  # noqa: E402
from checkpoints import BIN, compile_model, logits, run  # noqa: E402
from gguf_file import I32, STRING, array, value  # noqa: E402
from gguf_model import BLOCKS, TERNARY, VOCAB, Model, Type, random_blocks  # noqa: E402
from test_exactness import TARGETS  # noqa: E402

TOKENS = [int(t) for t in np.random.default_rng(7).integers(2, VOCAB, 24)]


@pytest.mark.parametrize("architecture, kind", [("bitnet-b1.58", "i2_s"), ("bitnet", "tq1_0"), ("llama", "tq2_0"),
                                                ("llama", "iq2_bn"), ("bitnet-25", "f16")])
def test_as_directory(tmp_path, architecture, kind):
    model = Model(architecture, tied=architecture != "llama")
    directory = compile_model(model.write_directory(tmp_path / "hf"), tmp_path / "a")
    file = model.write_gguf(tmp_path / "m.gguf", TERNARY[kind])
    program = compile_model(file, tmp_path / "b")
    assert np.array_equal(logits(directory, TOKENS), logits(program, TOKENS))
    run(BIN / "tercet", "verify", file, program)


@pytest.mark.parametrize("kind, groups", [("tq2_0", lambda columns: columns // 256), ("iq1_bn", lambda columns: 1)])
def test_scales_of_groups(tmp_path, kind, groups):
    model = Model("llama")
    for name, trits in model.trits.items():
        shape = len(trits), groups(trits.shape[1])
        model.scales[name] = np.random.default_rng(1).integers(64, 128, shape) / 128
    file = model.write_gguf(tmp_path / "m.gguf", TERNARY[kind])
    program = compile_model(file, tmp_path / "b")
    run(BIN / "tercet-reference", file, "--tokens", ",".join(map(str, TOKENS)), "--logits", tmp_path / "r.npy")
    assert np.array_equal(logits(program, TOKENS), np.load(tmp_path / "r.npy"))


HEADS = {**{kind.name: kind for kind in BLOCKS}, "F16": Type.F16, "F32": Type.F32}
TIED = [(kind, index % 2 == 0) for index, kind in enumerate(HEADS)]
# Conformance has every kind on every level, here two do for all that follows.
EVERY_LEVEL = {"Q6_K", "F16"}


@pytest.mark.parametrize("kind, tied", TIED + [("Q6_K", not dict(TIED)["Q6_K"])])
def test_heads_stay_as_they_are(tmp_path, kind, tied):
    """As many bytes as in the file, and the bits of the floats that ggml makes of them."""
    model = Model(tied=tied)
    rng = np.random.default_rng(5)
    shape = model.floats["model.embed_tokens"].shape
    tensors = {}
    for name, short in [("model.embed_tokens", "token_embd"), ("lm_head", "output")][:2 - tied]:
        if HEADS[kind] in BLOCKS:
            data, values = random_blocks(HEADS[kind], shape, rng)
        else:
            values = rng.normal(size=shape).astype(kind.lower().replace("f", "float"))
            data, values = values.tobytes(), values.astype(np.float32)
        model.floats[name] = values
        tensors[short] = int(HEADS[kind]), data
    file = model.write_gguf(tmp_path / "m.gguf", encode_float=lambda name, _: tensors[name])
    directory = model.write_directory(tmp_path / "hf")
    expected = logits(compile_model(directory, tmp_path / "a"), TOKENS)
    every_level = kind in EVERY_LEVEL and tied == dict(TIED)[kind]
    for target in (TARGETS if every_level else []) + ["native"]:
        program = compile_model(file, tmp_path / "b", f"--target={target}")
        started = subprocess.run([program, "--info"], text=True, capture_output=True)
        if "this CPU" in started.stderr:
            continue
        for chunk in (1, 5, len(TOKENS)):
            got = logits(program, TOKENS, "--threads", 2, "--chunk", chunk)
            assert np.array_equal(got.view(np.uint32), expected.view(np.uint32)), (target, chunk)
    run(BIN / "tercet", "verify", file, program)
    info = json.loads(subprocess.check_output([program, "--info"]))
    stored = len(tensors["token_embd" if tied else "output"][1])
    assert info["head"] == kind.lower()
    assert stored <= info["head_bytes"] <= 1.4 * stored  # five tiles of 64 rows for 288
    for head in ("screened", "i8") if every_level else ():
        options = f"--head={head}",
        ours = logits(compile_model(file, tmp_path / "b", *options), TOKENS)
        assert np.array_equal(ours, logits(compile_model(directory, tmp_path / "a", *options), TOKENS))
        assert head == "i8" or np.array_equal(ours, expected)


class LlamaCpp:
    def __init__(self, path):
        xllamacpp = pytest.importorskip("xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.port, parameters.warmup, parameters.verbosity = 64, 0, False, -1
        self.server = xllamacpp.Server(parameters)

    def log_probabilities(self, tokens):
        """Of the token that follows; NaN where they underflow."""
        question = dict(prompt=tokens, n_predict=1, n_probs=VOCAB, temperature=0, cache_prompt=False)
        request = urllib.request.Request(self.server.listening_address + "/completion",
                                         json.dumps(question).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            entries = json.load(answer)["completion_probabilities"][0]["top_logprobs"]
        result = np.full(VOCAB, np.nan)
        for entry in entries:
            if entry["logprob"] > -1e3:
                result[entry["id"]] = entry["logprob"]
        return result


WORDS = [value("tokenizer.ggml.model", STRING, "gpt2"), value("tokenizer.ggml.pre", STRING, "gpt-2"),
         array("tokenizer.ggml.tokens", STRING, [f"<{i}>" for i in range(VOCAB)]),
         array("tokenizer.ggml.token_type", I32, [1] * VOCAB), array("tokenizer.ggml.merges", STRING, ["a b"])]


@pytest.mark.parametrize("architecture", ["llama", "bitnet"])
@pytest.mark.parametrize("kind", ["tq1_0", "tq2_0"])
def test_as_llama_cpp(tmp_path, architecture, kind):
    """Its activations are quantised as well, in blocks of 256: here, where all
    but those of ffn_down are one block, by the same scales. What it computes in
    other ways moves logits by a hundredth of their range (measured: correlations
    of 0.9993 and more, of models like these); rows in a wrong order, a wrong
    activation or a wrong scale leave no correlation above 0.9."""
    correlations = []
    for seed in range(3):
        model = Model(architecture, seed=seed)
        model.floats["model.embed_tokens"] *= 0.2  # no probability underflows
        file = model.write_gguf(tmp_path / f"{seed}.gguf", TERNARY[kind], more=WORDS)
        run(BIN / "tercet-reference", file, "--tokens", ",".join(map(str, TOKENS)), "--logits", tmp_path / "r.npy")
        ours, theirs = np.load(tmp_path / "r.npy"), LlamaCpp(file)
        for length in (1, 7, 24):
            expected = theirs.log_probabilities(TOKENS[:length])
            assert not np.isnan(expected).any()
            correlations.append(np.corrcoef(ours[length - 1], expected)[0, 1])
    assert np.median(correlations) > 0.999 and min(correlations) > 0.98
