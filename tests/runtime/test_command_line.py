# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The executable's command line, on the toy model of FakeModel.cpp."""

import os
import pathlib
import subprocess

import numpy
import pytest

BIN = pathlib.Path(os.environ["TERCET_FAKE_MODEL_DIR"])
VOCAB = 300


def run(*args, program="fake-model", ok=True, **kwargs):
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    result = subprocess.run([BIN / program, *map(str, args)], text=True, timeout=60,
                            stderr=subprocess.PIPE, **kwargs)
    assert result.returncode == (0 if ok else 1), result
    return result


def error(*args, **kwargs):
    """The one line that a failing command prints."""
    result = run(*args, ok=False, **kwargs)
    assert not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def logits(tmp_path, *args):
    path = tmp_path / "out.npy"
    run(*args, "--logits", path)
    return numpy.load(path)


def test_info_and_help():
    assert run("--info").stdout == '{"model": "fake"}\n'
    assert "--perplexity FILE" in run("--help").stdout


def test_logits_do_not_depend_on_threads_or_chunks(tmp_path):
    ids = ",".join(str(i * 37 % VOCAB) for i in range(50))
    expected = logits(tmp_path, "--tokens", ids)
    assert expected.shape == (50, VOCAB) and expected.dtype == numpy.float32
    assert (expected.argmax(axis=1) == [(i * 37 + 1) % VOCAB for i in range(50)]).all()
    for threads in (1, 2, 3, 8):
        for chunk in (1, 7, 50):
            got = logits(tmp_path, "--tokens", ids, "--threads", threads, "--chunk", chunk)
            assert (got == expected).all()
    assert (logits(tmp_path, "--tokens", ids, "--copy", "--check") == expected).all()


def test_bad_arguments():
    assert "unknown argument '--nope'" in error("--nope")
    assert "token id 300 (number 2)" in error("--tokens", "1,300", "--logits", "/dev/null")
    assert "--help" in error()
    too_long = ",".join(["1"] * 97)
    assert "97 tokens" in error("--tokens", too_long, "--logits", "/dev/null")
    assert "compiled for 96" in error("--tokens", "1", "--logits", "/dev/null", "--context", 97)


def test_unwritable_output(tmp_path):
    assert "No space left" in error("--tokens", "1", "--logits", "/dev/full")
    assert "cannot write" in error("--tokens", "1", "--logits", tmp_path / "no" / "x.npy")
    assert not list(tmp_path.iterdir())
    with open("/dev/full", "w") as full:
        assert "No space left" in run("--info", ok=False, stdout=full).stderr
    closed = subprocess.run(f"{BIN}/fake-model --info >&-", shell=True, text=True,
                            stderr=subprocess.PIPE)
    assert closed.returncode == 1 and "stdout" in closed.stderr


def test_missing_cpu_feature():
    assert "needs feature 63; this CPU has" in error("--info", program="fake-model-foreign")


def damaged_copy(tmp_path, change):
    data = bytearray((BIN / "fake-model").read_bytes())
    blob = data.index(b"TERCETB\0" + (1).to_bytes(4, "little"), 4096)
    path = tmp_path / "damaged"
    path.write_bytes(change(data, blob))
    path.chmod(0o755)
    return path


def flip(at):
    def change(data, blob):
        data[blob + at] ^= 1
        return data
    return change


# The blob's header, its sections, the weights: every part may be cut off.
@pytest.mark.parametrize("keep", [0, 100, 4096, 2 << 20, (2 << 20) + 65535])
def test_truncated_file(tmp_path, keep):
    path = damaged_copy(tmp_path, lambda data, blob: data[:blob + keep])
    assert "truncated" in error("--info", program=path)


@pytest.mark.parametrize("at", [16, 100, 200, 330])
def test_damaged_file(tmp_path, at):
    assert "damaged" in error("--info", program=damaged_copy(tmp_path, flip(at)))


def test_damaged_weights_are_found_by_check(tmp_path):
    path = damaged_copy(tmp_path, flip((2 << 20) + 1000))
    command = ("--tokens", "1", "--logits", tmp_path / "x.npy")
    run(*command, program=path)
    assert "hash of the weights" in error(*command, "--check", program=path)
