# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A compiled model that is damaged, on the wrong CPU or asked for the impossible:
one line on stderr and exit status 1. The runtime's own checks, one by one, are in
tests/runtime."""

import os
import pathlib
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/models/austen"
TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
CONTEXT = 64

HEADER = struct.Struct("<QIIQQ64sQQ6I3Q2I5Q")  # tercet_blob_header
SECTION = struct.Struct("<IIQQQ")  # tercet_section
SECTIONS = {"weights": 1, "tokenizer": 2, "chat-template": 3, "generation": 4, "info": 5}


def compile_model(output, *options):
    subprocess.run([TERCET, "compile", MODEL, "-o", output, f"--context={CONTEXT}", *options], check=True)
    return output


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_model(tmp_path_factory.mktemp("program") / "austen")


def refusal(program, *arguments, **options):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# ---- Damage ---------------------------------------------------------------------

@pytest.fixture(scope="module")
def parts(program):
    """The file's bytes, where the blob is and where in it the sections are."""
    data = program.read_bytes()
    blob = data.index(b"TERCETB\0" + struct.pack("<I", 5), 4096)
    count = HEADER.unpack_from(data, blob)[2]
    table = [SECTION.unpack_from(data, blob + HEADER.size + i * SECTION.size) for i in range(count)]
    return data, blob, {kind: (offset, size) for kind, _, offset, size, _ in table}


def copy(tmp_path, data):
    path = tmp_path / "damaged"
    path.write_bytes(data)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("share", [0, 1e-4, 0.3, 0.9, 0.9999])
def test_truncated(tmp_path, parts, share):
    data, blob, _ = parts
    path = copy(tmp_path, data[:blob + int(share * (len(data) - blob))])
    assert "truncated" in refusal(path, "-p", "x", "-n", 1)


@pytest.mark.parametrize("at", [8, 12, 16, 24, 32, 96, 104, 112, 116, 128, HEADER.size, HEADER.size + 8,
                                HEADER.size + SECTION.size])
def test_damaged_header_or_table(tmp_path, parts, at):
    data, blob, _ = parts
    data = bytearray(data)
    data[blob + at] ^= 0x10
    refusal(copy(tmp_path, data), "--info")


@pytest.mark.parametrize("name", SECTIONS)
def test_damaged_section(tmp_path, parts, name):
    data, blob, sections = parts
    offset, size = sections[SECTIONS[name]]
    check = ["--check"] if name == "weights" else []
    for at in (0, size // 2, size - 1):
        damaged = bytearray(data)
        damaged[blob + offset + at] ^= 1
        assert "damaged" in refusal(copy(tmp_path, damaged), "-p", "x", "-n", 1, *check)


# ---- The machine ------------------------------------------------------------------

def test_wrong_cpu(tmp_path):
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text().split()
    names = {"avxvnni": "avx_vnni", "avx512vnni": "avx512_vnni", "avx512vbmi": "avx512vbmi",
             "amxint8": "amx_int8"}
    missing = [name for name, flag in names.items() if flag not in cpuinfo]
    if not missing:
        pytest.skip("this CPU has everything")
    program = compile_model(tmp_path / "x", f"--target=x86-64-v3+{missing[0]}")
    message = refusal(program, "-p", "x", "-n", 1)
    assert missing[0] in message and "this CPU" in message


# ---- The question -------------------------------------------------------------------

def test_prompt_longer_than_the_context(tmp_path, program):
    ids = ",".join(["1"] * (CONTEXT + 1))
    assert f"context of {CONTEXT} " in refusal(program, "--tokens", ids)
    assert f"context of {CONTEXT} " in refusal(program, "-p", "word " * 200)
    refusal(program, "--tokens", ids, "--logits", tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", ["a", " ", "\n", "é", "\x00"])
def test_ten_megabytes_of_one_character(program, unit):
    text = unit * (10_000_000 // len(unit.encode()))
    assert f"context of {CONTEXT} " in refusal(program, "-p", "-", input=text)


@pytest.mark.parametrize("arguments, message", [
    (["--frobnicate"], "unknown argument '--frobnicate'"),
    (["stray"], "unknown argument 'stray'"),
    ([], "--help"),
    (["-p"], "-p: expected TEXT"),
    (["-p", "x", "--chat"], "give only one of"),
    (["-p", "x", "--temp", "hot"], "--temp hot: expected a number"),
    (["-p", "x", "--threads", "0"], "--threads 0: expected a whole number"),
    (["-p", "x", "--context", "9999"], "9999"),
    (["--tokens", "1,x"], "--tokens x"),
    (["--tokens", "2048"], "2048"),
    (["--tokens", "-1"], "-1"),
    (["--perplexity", "/absent"], "/absent"),
    (["--perplexity", "/"], "/"),
    (["--logits", "x.npy"], "nothing to do"),
])
def test_bad_arguments(program, arguments, message):
    assert message in refusal(program, *arguments)


def test_unwritable_logits(tmp_path, program):
    assert "No space left" in refusal(program, "--tokens", "1", "--logits", "/dev/full")
    assert "cannot write" in refusal(program, "--tokens", "1", "--logits", tmp_path / "absent" / "x.npy")


def test_full_stdout(program):
    with open("/dev/full", "w") as full:
        done = subprocess.run([program, "-p", "x", "-n", "5"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "No space left" in done.stderr
