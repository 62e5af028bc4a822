#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Inner loops of Arm kernels beside the same by hand, without Arm hardware.

Prints a table of instructions for 64 bytes of i2 weights, and of their cycles as
llvm-mca predicts them: of the code that tercet generates, and of
IntrinsicKernelsArm.cpp as clang compiles it. A GEMM's are those of one token.
Then a table of products in a cycle, from i2 and t3.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TERCET_BIN_DIR", ROOT / "build/bin"))
CLANG, MCA = "clang++-22", "llvm-mca-22"
WEIGHTS = 256  # of 64 bytes
ITERATIONS = 100

# Products of each lane of an instruction, times its lanes.
PRODUCTS = {"sdot": 16, "usdot": 16, "usmmla": 32, "smlal": 8, "smlal2": 8, "smull": 8, "smull2": 8}
# CPUs that llvm-mca knows, oldest first.
CPUS = ("cortex-a55", "neoverse-n1", "cortex-a720", "neoverse-v2")


@dataclass(frozen=True)
class Level:
    target: str
    march: str
    cpus: tuple
    tokens: int  # of the GEMM's register tile
    emulated: str  # a CPU of qemu's without the next level


LEVELS = (
    Level("aarch64", "armv8-a", CPUS, 4, "cortex-a72"),
    Level("aarch64+dotprod", "armv8.2-a+dotprod", CPUS, 4, "neoverse-n1"),
    Level("aarch64+dotprod+i8mm", "armv8.2-a+dotprod+i8mm", CPUS[2:], 6, "max,sve=off"),
)
KERNELS = {"GEMV": "runI2GemvArm", "GEMM": "runI2GemmArm"}


def run(*command, text=None):
    done = subprocess.run([*map(str, command)], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"arm_kernels.py: error: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def generated(level, name, packing="i2"):
    """Without what measures the peak of the dot product, which is no kernel."""
    tokens = level.tokens if name == "GEMM" else 1
    assembly = run(BIN / "tercet-test-kernel-code", level.target, packing, tokens)
    return re.sub(r"^tercet_dot_peak:.*?\.Lfunc_end", "", assembly, flags=re.DOTALL | re.MULTILINE)


def compile_by_hand(level, *options):
    return run(CLANG, "--target=aarch64-linux-gnu", f"-march={level.march}", "-O3", "-std=c++20", f"-I{ROOT}",
               ROOT / "tests/bench/IntrinsicKernelsArm.cpp", *options)


def by_hand(level, name):
    assembly = compile_by_hand(level, "-S", "-o", "-")
    return re.search(rf"^\S*{KERNELS[name]}\S*:.*?\.Lfunc_end", assembly, re.DOTALL | re.MULTILINE)[0]


def opcode(line):
    return line.split()[0]


def innermost_loops(assembly):
    """Instructions from a label to the branch back to it."""
    lines, labels, loops = assembly.splitlines(), {}, []
    for number, line in enumerate(lines):
        if label := re.match(r"(\.LBB\w+):", line):
            labels[label[1]] = number
        branch = re.match(r"\s+(?:b|b\.\w+|cbn?z|tbn?z)\s.*?(\.LBB\w+)$", line.split("//")[0].rstrip())
        if branch and branch[1] in labels:
            loops.append((labels[branch[1]], number))
    for begin, end in loops:
        if not any(begin <= b and e <= end for b, e in loops if (b, e) != (begin, end)):
            yield [line.split("//")[0].strip() for line in lines[begin + 1:end + 1] if re.match(r"\s+[a-z]", line)]


def products(loop):
    return sum(PRODUCTS.get(opcode(line), 0) for line in loop)


def main_loop(assembly):
    """The loop that multiplies most at a time."""
    return max(innermost_loops(assembly), key=products)


def predict_cycles(loop, cpu):
    text = "loop:\n" + "\n".join(loop[:-1]) + "\n" + re.sub(r"\.LBB\w+", "loop", loop[-1]) + "\n"
    report = run(MCA, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={ITERATIONS}", text=text)
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / ITERATIONS


@dataclass(frozen=True)
class Cost:
    instructions: float
    cycles: dict


def cost(assembly, cpus):
    """Of 64 bytes of weights."""
    loop = main_loop(assembly)
    scale = WEIGHTS / products(loop)
    return Cost(len(loop) * scale, {cpu: predict_cycles(loop, cpu) * scale for cpu in cpus})


def measure(level, name):
    """Costs of the generated kernel and of that by hand."""
    return cost(generated(level, name), level.cpus), cost(by_hand(level, name), level.cpus)


def main():
    print("| level | kernel | instructions | " + " | ".join(CPUS) + " |")
    print("|" + "---|" * (3 + len(CPUS)))
    for level in LEVELS:
        for name in KERNELS:
            ours, hand = measure(level, name)
            cells = [f"{ours.instructions:.1f} / {hand.instructions:.1f}"]
            cells += [f"{ours.cycles[cpu]:.1f} / {hand.cycles[cpu]:.1f}" if cpu in level.cpus else "" for cpu in CPUS]
            print(f"| {level.target} | {name} | " + " | ".join(cells) + " |")
    print("\n| level | kernel | packing | " + " | ".join(CPUS) + " |")
    print("|" + "---|" * (3 + len(CPUS)))
    for level in LEVELS:
        for name in KERNELS:
            for packing in ("i2", "t3"):
                loop = main_loop(generated(level, name, packing))
                cells = [f"{products(loop) / predict_cycles(loop, cpu):.1f}" if cpu in level.cpus else "" for cpu in CPUS]
                print(f"| {level.target} | {name} | {packing} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
