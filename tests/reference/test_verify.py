# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The import of every kind of checkpoint against transformers, op by op."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "frontends"))
from checkpoint import HIDDEN, config, f32, llama_config, tensors, write  # noqa: E402

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-test-verify")
DIVIDE = {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
          "modules_to_not_convert": ["lm_head"]}
OFFLINE = {**ONLINE, "quantization_mode": "offline"}

MODELS = {
    "bitnet-offline": (tensors(), config(quantization_config=OFFLINE)),
    "bitnet-divide": (tensors(), config(quantization_config=DIVIDE)),
    "bitnet-online": (tensors("latent"), config(quantization_config=ONLINE)),
    "llama-divide": (tensors(norms=(), head=True), llama_config()),
}


def verify(*arguments):
    return subprocess.run([TOOL, "--json", *arguments], text=True, capture_output=True, timeout=60)


def checks(result):
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def dump(model, directory):
    pytest.importorskip("transformers")
    subprocess.run([sys.executable, TESTS / "e2e" / "dump_reference.py", model, directory], check=True,
                   capture_output=True, timeout=300)
    return directory


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    directory = tmp_path_factory.mktemp("offline")
    model = write(directory / "model", *MODELS["bitnet-offline"])
    return model, dump(model, directory / "dump")


@pytest.mark.parametrize("name", MODELS)
def test_every_op_agrees(tmp_path, name):
    model = write(tmp_path / "model", *MODELS[name])
    result = verify(model, "--against", dump(model, tmp_path / "dump"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(checks(result)) == {"import", "embedding", "rms_norm", "bit_linear", "attention",
                                   "gated_activation", "linear"}


def test_names_what_differs(tmp_path, offline):
    """The same dump against a model with another norm."""
    contents, fields = MODELS["bitnet-offline"]
    name = "model.layers.1.post_attention_layernorm"
    model = write(tmp_path / "model", {**contents, name + ".weight": f32(np.full(HIDDEN, 2))}, fields)
    result = verify(model, "--against", offline[1])
    assert result.returncode == 1
    assert "1 of 7 checks failed" in result.stderr
    assert not checks(result)["rms_norm"]["passed"]
    assert "first at " + name in checks(result)["rms_norm"]["detail"]


@pytest.mark.parametrize("spoil, message", [
    (lambda m: m.update(format="other"), "format is not tercet-dump-1"),
    (lambda m: m["ops"][1].update(name="model.layers.9"), "rms_norm model.layers.9: the model has no such op"),
    (lambda m: m["ops"][1].update(output="missing.npy"), "missing.npy"),
    (lambda m: m["ops"][1].update(inputs=[]), "has 0 inputs, not 1"),
    (lambda m: m.pop("tokens"), "missing value at (root).tokens"),
    (lambda m: m.update(tokens=[1]), "has another shape than ours"),
    (lambda m: m["ops"][1].update(inputs=m["ops"][2]["inputs"][:1] * 2), "has 2 inputs, not 1"),
])
def test_broken_dumps(tmp_path, offline, spoil, message):
    model, source = offline
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    manifest = json.loads((source / "manifest.json").read_text())
    spoil(manifest)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    result = verify(model, "--against", tmp_path)
    assert result.returncode == 1
    assert message in result.stderr


def test_executable(tmp_path, offline):
    """A program that writes the interpreter's logits, then one that changes a bit."""
    model = offline[0]
    logits = tmp_path / "logits.npy"
    subprocess.run([os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-reference"), model, "--tokens", "3,1,4",
                    "--logits", logits], check=True)
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "--tokens 3,1,4 --logits" ] && cp {logits} "$4"\n')
    program.chmod(0o755)
    result = verify(model, program, "--tokens", "3,1,4")
    assert result.returncode == 0, result.stderr
    assert checks(result)["artifact"]["detail"] == "identical logits"

    values = np.load(logits)
    values[2, 5] = np.nextafter(values[2, 5], np.float32(np.inf))
    np.save(logits, values)
    result = verify(model, program, "--tokens", "3,1,4")
    assert result.returncode == 1
    assert "logits differ from token 2, id 5" in checks(result)["artifact"]["detail"]
    result = verify(model, program)
    assert f"{program}: exit status 1" in result.stderr
