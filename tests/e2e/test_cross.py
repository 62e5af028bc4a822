# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The bundled model compiled for other machines, run by emulators and node: logits of 200
tokens of a held-out novel and 64 greedy tokens are those of this machine, bit for
bit. An emulated CPU without the features of a program is told so."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "models"))
import corpus

BIN = Path(os.environ["TERCET_BIN_DIR"])
MODEL = TESTS / "models/austen"

# --target, and the emulator with a CPU that has no more than the target asks for.
MACHINES = [
    ("aarch64-linux-gnu", ["qemu-aarch64", "-cpu", "cortex-a72"]),
    ("aarch64+dotprod", ["qemu-aarch64", "-cpu", "neoverse-n1"]),
    ("aarch64+dotprod+i8mm", ["qemu-aarch64", "-cpu", "max,sve=off"]),
    ("riscv64", ["qemu-riscv64", "-cpu", "rv64"]),
    ("riscv64+v", ["qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0"]),
    ("riscv64+v", ["qemu-riscv64", "-cpu", "rv64,v=true,vlen=256,vext_spec=v1.0"]),
    ("wasm32+simd128", ["node"]),
]


def output(*command, **options):
    return subprocess.run([*map(str, command)], text=True, capture_output=True, check=True, **options).stdout


def compile_model(program, target, machine=(), model=MODEL):
    """The command that runs it on a machine."""
    if machine and shutil.which(machine[0]) is None:
        pytest.skip(f"{machine[0]} is not installed")
    output(BIN / "tercet", "compile", model, "-o", program, f"--target={target}")
    return [*machine, f"{program}.mjs" if machine == ["node"] else program]


def segment_types(program):
    """Types of the segments of a 64-bit ELF file, little endian."""
    image = program.read_bytes()
    assert image[:6] == b"\x7fELF\x02\x01"
    (table,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    return [struct.unpack_from("<I", image, table + i * size)[0] for i in range(count)]


def greedy(command, ids):
    return output(*command, "--tokens", ",".join(ids[:20]), "-n", 64)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What this machine makes of the model: ids, their logits, and greedy tokens."""
    directory = tmp_path_factory.mktemp("here")
    try:
        novel = corpus.text(corpus.HELD_OUT)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    ids = output(BIN / "tercet-test-tokenize", MODEL, input=novel[:2000]).split()[:200]
    assert len(ids) == 200
    command = compile_model(directory / "austen", "native")
    output(*command, "--tokens", ",".join(ids), "--logits", directory / "logits.npy")
    return ids, np.load(directory / "logits.npy"), greedy(command, ids)


@pytest.mark.parametrize("target, machine", MACHINES)
def test_same_bits(tmp_path, here, target, machine):
    ids, expected, tokens = here
    command = compile_model(tmp_path / "austen", target, machine)
    output(*command, "--tokens", ",".join(ids), "--logits", tmp_path / "logits.npy")
    got = np.load(tmp_path / "logits.npy")
    assert got.shape == expected.shape and (got.view(np.uint32) == expected.view(np.uint32)).all()
    assert greedy(command, ids) == tokens


@pytest.mark.parametrize("architecture, feature, cpu", [
    ("aarch64", "+dotprod", "neoverse-n1"),
    ("riscv64", "+v", "rv64,v=true,vlen=128,vext_spec=v1.0"),
])
def test_library(tmp_path, here, architecture, feature, cpu):
    """A C program for the other machine, linked with the library."""
    ids, expected, _ = here
    machine = [f"qemu-{architecture}", "-cpu", cpu, "-L", f"/usr/{architecture}-linux-gnu"]
    if shutil.which(machine[0]) is None:
        pytest.skip(f"{machine[0]} is not installed")
    output(BIN / "tercet", "compile", MODEL, "-o", tmp_path / "libausten.so", "--emit=lib",
           f"--target={architecture}{feature}")
    output("clang-22", f"--target={architecture}-linux-gnu", "-fuse-ld=lld", f"-I{tmp_path}",
           TESTS / "e2e/print_logits.c", f"-L{tmp_path}", "-lausten", f"-Wl,-rpath,{tmp_path}",
           "-o", tmp_path / "print-logits")
    done = subprocess.run([*machine, tmp_path / "print-logits", *ids[:40]], capture_output=True, check=True)
    assert done.stdout == expected[:40].tobytes()


@pytest.mark.parametrize("target, machine, feature", [
    ("aarch64+dotprod", ["qemu-aarch64", "-cpu", "cortex-a72"], "dotprod"),
    ("aarch64-linux-gnu+dotprod+i8mm", ["qemu-aarch64", "-cpu", "neoverse-n1"], "i8mm"),
    ("riscv64+v", ["qemu-riscv64", "-cpu", "rv64"], "v"),
])
def test_missing_feature(tmp_path, target, machine, feature):
    command = compile_model(tmp_path / "austen", target, machine)
    done = subprocess.run([*command, "--tokens", "1"], text=True, capture_output=True)
    assert done.returncode == 1 and not done.stdout
    assert f"needs {feature}; this CPU has " in done.stderr, done.stderr


PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "aarch64+dotprod,aarch64", "riscv64"])
def test_executables_are_static(tmp_path, target):
    compile_model(tmp_path / "austen", target)
    types = segment_types(tmp_path / "austen")
    assert PT_LOAD in types and not {PT_INTERP, PT_DYNAMIC} & set(types)


def test_libraries_are_not_static(tmp_path):
    """What looks for segments finds them."""
    output(BIN / "tercet", "compile", MODEL, "-o", tmp_path / "libausten.so", "--emit=lib", "--target=aarch64")
    assert PT_DYNAMIC in segment_types(tmp_path / "libausten.so")


GRAPH = Path("/usr/share/libonnx-testdata/data/node/test_softmax_axis_1/model.onnx")


@pytest.mark.skipif(not GRAPH.exists(), reason="libonnx-testdata is not installed")
def test_graph(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(3, 4, 5)).astype("f4"))
    results = []
    for target, machine in [("native", ()), ("wasm32+simd128", ["node"])]:
        command = compile_model(tmp_path / target, target, machine, GRAPH)
        output(*command, "--input", "x=x.npy", "--output", "y=y.npy", cwd=tmp_path)
        results.append((tmp_path / "y.npy").read_bytes())
    assert results[0] == results[1]


def test_help_of_a_module(tmp_path):
    command = compile_model(tmp_path / "austen", "wasm32+simd128", ["node"])
    assert f"\n  node {tmp_path}/austen.mjs -p " in output(*command, "--help")


def test_damaged_module(tmp_path):
    command = compile_model(tmp_path / "austen", "wasm32+simd128", ["node"])
    size = (tmp_path / "austen").stat().st_size
    for cut, message in [
        (size - 100, "error: this artifact is damaged (truncated: "),
        (1000, f"error: {tmp_path}/austen: WebAssembly.compile(): "),
        (3, f"error: {tmp_path}/austen: not a WebAssembly module"),
    ]:
        os.truncate(tmp_path / "austen", cut)
        done = subprocess.run([*command, "--info"], text=True, capture_output=True)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.startswith(message) and done.stderr.count("\n") == 1, done.stderr
