# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Generated Arm kernels are as good as the same by hand."""

import shutil
from pathlib import Path

import pytest

from arm_kernels import KERNELS, LEVELS, ROOT, compile_by_hand, generated, main_loop, measure, opcode, run

# More instructions, or cycles, than by hand.
TOLERANCE = 1.05
# What multiplies, at each level.
INSTRUCTIONS = {
    "aarch64": {"GEMV": "smlal", "GEMM": "smlal"},
    "aarch64+dotprod": {"GEMV": "sdot", "GEMM": "sdot"},
    "aarch64+dotprod+i8mm": {"GEMV": "usdot", "GEMM": "usmmla"},
}

each_level = pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.target)
each_kernel = pytest.mark.parametrize("name", KERNELS)


@each_level
def test_by_hand_is_right(tmp_path, level):
    if not shutil.which("qemu-aarch64") or not Path("/usr/aarch64-linux-gnu/lib/libc.a").exists():
        pytest.skip("no emulator, or no C library for aarch64")
    program = tmp_path / "check"
    compile_by_hand(level, ROOT / "tests/bench/CheckIntrinsicKernelsArm.cpp", "-fuse-ld=lld", "-static",
                    "-o", program)
    run("qemu-aarch64", "-cpu", level.emulated, program)


@each_level
@each_kernel
def test_is_as_good_as_by_hand(level, name):
    ours, hand = measure(level, name)
    assert ours.instructions <= TOLERANCE * hand.instructions
    for cpu in level.cpus:
        assert ours.cycles[cpu] <= TOLERANCE * hand.cycles[cpu], cpu


@each_level
@each_kernel
def test_multiplies_with_the_instruction_of_the_level(level, name):
    opcodes = {opcode(line) for line in main_loop(generated(level, name))}
    assert INSTRUCTIONS[level.target][name] in opcodes
    assert not opcodes & {"mul", "mla"}


@each_level
@each_kernel
def test_keeps_off_the_stack(level, name):
    loop = main_loop(generated(level, name))
    assert not [line for line in loop if "[sp" in line]
