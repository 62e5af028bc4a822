# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A kernel is IR that the compiler builds: nothing that compiles models carries
one as source text, intrinsics or assembly, or hands text to another compiler."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ["compiler", "dialect", "frontends", "runtime"]
CODE = {".cpp", ".h", ".td", ".in", ".inc"}

# Intrinsics and vector types of C, by header and by name.
INTRINSICS = re.compile(r"immintrin\.h|arm_neon\.h|arm_sve\.h|riscv_vector\.h|wasm_simd128\.h"
                        r"|\b_mm\d*_\w+|\bv(ld1|dot|mmla|mull)q?_\w+")
INLINE_ASSEMBLY = re.compile(r"\b(__asm__|__asm|asm)\b\s*(volatile|__volatile__)?\s*\(")
SOURCE_TEXT = re.compile(r'R"\w*\([^"]*#include|"[^"]*#include <[^"]*"|llvm\.inline_asm|InlineAsmOp')
OTHER_COMPILER = re.compile(r'"([^"]*/bin/)?(clang|gcc|g\+\+|cc|c\+\+|as|llc|opt|nvcc)(-\d+)?"')

# What no language says otherwise: one instruction each, no arithmetic.
ALLOWED = {
    ("runtime/src/CpuFeatures.cpp", "xgetbv"),
    ("runtime/src/CpuFeatures.cpp", ".option arch, +v"),  # vsetvli: how long are registers
    ("runtime/src/ThreadPool.cpp", "isb"),
}


def files():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file():
                yield path


def test_only_cpp():
    """No assembly, C, LLVM IR or object among the sources."""
    others = {".S", ".s", ".asm", ".c", ".cl", ".cu", ".ll", ".bc", ".o", ".a", ".mlir"}
    assert [str(path) for path in files() if path.suffix in others] == []


@pytest.mark.parametrize("pattern", [INTRINSICS, SOURCE_TEXT, OTHER_COMPILER],
                         ids=["intrinsics", "source-text", "other-compiler"])
def test_nothing_hand_written(pattern):
    found = [f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
             for path in files() if path.suffix in CODE
             for number, line in enumerate(path.read_text().splitlines(), 1)
             if pattern.search(line)]
    assert not found, "\n".join(found)


def test_inline_assembly():
    found = []
    for path in files():
        if path.suffix not in CODE:
            continue
        name = path.relative_to(ROOT).as_posix()
        for line in path.read_text().splitlines():
            if INLINE_ASSEMBLY.search(line) and not any(
                    name == file and instruction in line for file, instruction in ALLOWED):
                found.append(f"{name}: {line.strip()}")
    assert not found, "\n".join(found)
