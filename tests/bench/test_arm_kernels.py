# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Generated Arm kernels are as good as the same by hand."""

import shutil
from pathlib import Path

import pytest

from arm_kernels import (CASES, DOTPROD, I8MM, LEVELS, NEON, ROOT, compile_by_hand, generated, main_loop, measure,
                         opcode, run)

TOLERANCE = 1.05  # more instructions, or cycles, than by hand
# What multiplies trits, at each level.
INSTRUCTIONS = {
    ("i2 GEMV", NEON): "smlal",
    ("i2 GEMV", DOTPROD): "sdot",
    ("i2 GEMV", I8MM): "usdot",
    ("i2 GEMM", NEON): "smlal",
    ("i2 GEMM", DOTPROD): "sdot",
    ("i2 GEMM", I8MM): "usmmla",
    ("t3 GEMV", NEON): "smlal",
    ("t3 GEMV", DOTPROD): "sdot",
    ("t3 GEMV", I8MM): "usdot",
}

each_case = pytest.mark.parametrize("level, kernel", CASES, ids=[f"{k.name}, {l.target}" for l, k in CASES])


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.target)
def test_by_hand_is_right(tmp_path, level):
    if not shutil.which("qemu-aarch64") or not Path("/usr/aarch64-linux-gnu/lib/libc.a").exists():
        pytest.skip("no emulator, or no C library for aarch64")
    program = tmp_path / "check"
    compile_by_hand(level, *(ROOT / "tests/bench/Arm").glob("*.cpp"), "-fuse-ld=lld", "-static", "-o", program)
    run("qemu-aarch64", "-cpu", level.emulated, program)


@each_case
def test_is_as_good_as_by_hand(level, kernel):
    ours, hand = measure(level, kernel)
    ratios = {"instructions": ours.instructions / hand.instructions}
    ratios |= {cpu: ours.cycles[cpu] / hand.cycles[cpu] for cpu in level.cpus}
    assert max(ratios.values()) <= TOLERANCE, ratios


@each_case
def test_multiplies_with_the_instruction_of_the_level(level, kernel):
    opcodes = {opcode(line) for line in main_loop(kernel, generated(level, kernel))}
    if expected := INSTRUCTIONS.get((kernel.name, level)):
        assert expected in opcodes
    if kernel.code in ("i2", "t3"):
        assert not opcodes & {"mul", "mla"}


@each_case
def test_keeps_off_the_stack(level, kernel):
    assert not [line for line in main_loop(kernel, generated(level, kernel)) if "[sp" in line]
