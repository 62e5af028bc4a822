# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Whole models for AVX-VNNI on CPUs without it, by tests/support/avxvnni: that is
preloaded, so the model is a library. Its check of the CPU is as shipped; only
the instruction cpuid is replaced, in a copy, by one that the emulator answers."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np

from checkpoints import BIN, compile_model

ROOT = Path(__file__).resolve().parents[2]
PRELOAD = BIN.parent / "lib/libAVXVNNIPreload.so"
CPUID, EMULATED_CPUID = b"\x0f\xa2", b"\x06\xa2"


def file_offset(elf, address):
    """By the program headers of a 64-bit ELF file."""
    table, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for at in range(table, table + size * count, size):
        kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ", elf, at)
        if kind == 1 and start <= address < start + length:
            return address - start + offset
    raise AssertionError(f"no segment holds {address:x}")


def replace_cpuid(library):
    listing = subprocess.run(["llvm-objdump-22", "-d", "--no-show-raw-insn", library],
                             text=True, capture_output=True, check=True).stdout
    sites = [int(at, 16) for at in re.findall(r"^\s*(\w+):\s+cpuid$", listing, re.MULTILINE)]
    assert sites
    elf = bytearray(library.read_bytes())
    for site in sites:
        at = file_offset(elf, site)
        assert elf[at:at + 2] == CPUID
        elf[at:at + 2] = EMULATED_CPUID
    library.write_bytes(elf)


def emulated_logits(model, directory, target, tokens, *options):
    """Also that dot products were emulated, unless this CPU executes them, and none without replacing cpuid."""
    library = compile_model(model, directory / "libmodel.so", "--emit=lib", f"--target={target}", *options)
    program = directory / "print-logits"
    subprocess.run([shutil.which("clang-22") or shutil.which("cc"), f"-I{directory}", ROOT / "tests/e2e/print_logits.c",
                    f"-L{directory}", "-lmodel", f"-Wl,-rpath,{directory}", "-o", program], check=True)

    def run():
        return subprocess.run([program, *map(str, tokens)], capture_output=True, timeout=300,
                              env={"LD_PRELOAD": str(PRELOAD)})

    refused = run()
    assert refused.returncode == 1 and b"needs avxvnni;" in refused.stderr
    assert b"emulated 0 dot products" in refused.stderr
    replace_cpuid(library)
    done = run()
    assert done.returncode == 0, done.stderr
    emulated, executed = re.fullmatch(rb"emulated (\d+) dot products(, this CPU executes them)?\n", done.stderr).groups()
    assert executed or int(emulated) > 1000 * len(tokens)
    return np.frombuffer(done.stdout, np.float32).reshape(len(tokens), -1)
