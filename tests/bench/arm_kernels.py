#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Inner loops of Arm kernels beside the same by hand, without Arm hardware.

Prints a table of instructions for 64 bytes of what a kernel streams, and of their
cycles as llvm-mca predicts them: of the code that tercet generates, and of Arm/*.cpp
as clang compiles it. With several tokens they are those of one, attention's those of
one query head. Then a table of products in a cycle, from i2 and t3.
"""

import functools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TERCET_BIN_DIR", ROOT / "build/bin"))
CLANG, MCA = "clang++-22", "llvm-mca-22"
ITERATIONS = 100
# CPUs that llvm-mca knows, oldest first.
CPUS = ("cortex-a55", "neoverse-n1", "cortex-a720", "neoverse-v2")


@dataclass(frozen=True)
class Level:
    target: str
    march: str
    cpus: tuple
    emulated: str  # a CPU of qemu's without the next level


NEON = Level("aarch64", "armv8-a", CPUS, "cortex-a72")
DOTPROD = Level("aarch64+dotprod", "armv8.2-a+dotprod", CPUS, "neoverse-n1")
I8MM = Level("aarch64+dotprod+i8mm", "armv8.2-a+dotprod+i8mm", CPUS[2:], "max,sve=off")
LEVELS = (NEON, DOTPROD, I8MM)

# Products of each lane of an instruction, times its lanes.
DOTS = {"sdot": 16, "usdot": 16, "usmmla": 32, "smlal": 8, "smlal2": 8, "smull": 8, "smull2": 8, "mul": 8}
LOOKUPS = {"tbl": 12}  # of one byte of eight sums of three
FLOATS = {"fmla": 4}


@dataclass(frozen=True, eq=False)
class Kernel:
    name: str
    code: str  # as tercet-test-kernel-code calls it
    by_hand: str  # a file of Arm/ and its function
    work: dict  # of the instructions by which the loop is known
    unit: float  # of work, for 64 bytes
    levels: tuple = LEVELS
    tokens: tuple = (1, 1, 1)  # at each level
    last: bool = False  # of several loops that do the most work, rather than the first

    def tokens_of(self, level):
        return self.tokens[LEVELS.index(level)]


KERNELS = (
    Kernel("i2 GEMV", "i2", "I2 runI2GemvArm", DOTS, 256),
    Kernel("i2 GEMM", "i2", "I2 runI2GemmArm", DOTS, 256, tokens=(4, 4, 6)),
    Kernel("t3 GEMV", "t3", "T3 runT3GemvArm", DOTS, 307.2),
    Kernel("t3 GEMM", "t3", "T3 runT3GemmArm", DOTS, 307.2, tokens=(4, 6, 6)),
    Kernel("l3 GEMV", "l3", "L3 runL3GemvArm", LOOKUPS, 288, (NEON,)),
    Kernel("l3 GEMM", "l3", "L3 runL3GemmArm", LOOKUPS, 288, (NEON,), (4,)),
    Kernel("bf16 head, 1 token", "bf16", "Heads runBF16GemvArm", FLOATS, 32),
    Kernel("bf16 head, 4 tokens", "bf16", "Heads runBF16GemmArm", FLOATS, 32, (NEON,), (4,)),
    Kernel("i8 head, 1 token", "i8", "Heads runI8GemvArm", DOTS, 2 * 64),
    Kernel("i8 head, 2 tokens", "i8", "Heads runI8GemmArm", DOTS, 2 * 64, (DOTPROD, I8MM), (1, 2, 2)),
    Kernel("q6 head, 1 token", "q6", "Heads runQ6GemvArm", DOTS, 2 * 64 / 0.75),
    Kernel("q6 head, 2 tokens", "q6", "Heads runQ6GemmArm", DOTS, 2 * 64 / 0.75, (DOTPROD, I8MM), (1, 2, 2)),
    Kernel("attention, scores", "attention", "Attention runScoresArm", FLOATS, 16, (NEON,)),
    Kernel("attention, values", "attention", "Attention runValuesArm", FLOATS, 16, (NEON,), last=True),
    Kernel("rms_norm, squares", "rms_norm", "Rows runRMSNormArm", FLOATS, 16, (NEON,)),
    Kernel("rms_norm, products", "rms_norm", "Rows runRMSNormArm", {"fmul": 2}, 16, (NEON,)),
    Kernel("quantise, maximum", "quantize_activations", "Rows runQuantiseArm", {"fabs": 4}, 16, (NEON,)),
    Kernel("quantise, codes", "quantize_activations", "Rows runQuantiseArm", {"frintn": 4}, 16, (NEON,)),
)
CASES = [(level, kernel) for kernel in KERNELS for level in kernel.levels]


def run(*command, text=None):
    done = subprocess.run([*map(str, command)], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"arm_kernels.py: error: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


@functools.cache
def generated(level, kernel):
    """Without what measures the peak of the dot product, which is no kernel."""
    assembly = run(BIN / "tercet-test-kernel-code", level.target, kernel.code, kernel.tokens_of(level))
    return re.sub(r"^tercet_dot_peak:.*?\.Lfunc_end", "", assembly, flags=re.DOTALL | re.MULTILINE)


def compile_by_hand(level, *arguments):
    return run(CLANG, "--target=aarch64-linux-gnu", f"-march={level.march}", "-O3", "-std=c++20", f"-I{ROOT}",
               *arguments)


@functools.cache
def compile_file(level, name):
    return compile_by_hand(level, ROOT / f"tests/bench/Arm/{name}.cpp", "-S", "-o", "-")


def by_hand(level, kernel):
    file, function = kernel.by_hand.split()
    return re.search(rf"^\S*{function}\S*:.*?\.Lfunc_end", compile_file(level, file), re.DOTALL | re.MULTILINE)[0]


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


def work(kernel, loop):
    return sum(kernel.work.get(opcode(line), 0) for line in loop)


def main_loop(kernel, assembly):
    """The loop that does most at a time. That of exp rounds, and so is none of attention's products."""
    loops = [loop for loop in innermost_loops(assembly)
             if kernel.code != "attention" or "frintn" not in map(opcode, loop)]
    return max(reversed(loops) if kernel.last else loops, key=functools.partial(work, kernel))


def predict_cycles(loop, cpu):
    text = "loop:\n" + "\n".join(loop[:-1]) + "\n" + re.sub(r"\.LBB\w+", "loop", loop[-1]) + "\n"
    report = run(MCA, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={ITERATIONS}", text=text)
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / ITERATIONS


@dataclass(frozen=True)
class Cost:
    instructions: float
    cycles: dict


def cost(kernel, assembly, cpus):
    """For 64 bytes."""
    loop = main_loop(kernel, assembly)
    scale = kernel.unit / work(kernel, loop)
    return Cost(len(loop) * scale, {cpu: predict_cycles(loop, cpu) * scale for cpu in cpus})


def measure(level, kernel):
    """Costs of the generated kernel and of that by hand."""
    return cost(kernel, generated(level, kernel), level.cpus), cost(kernel, by_hand(level, kernel), level.cpus)


def main():
    print("| kernel | level | instructions | " + " | ".join(CPUS) + " |")
    print("|" + "---|" * (3 + len(CPUS)))
    for level, kernel in CASES:
        ours, hand = measure(level, kernel)
        cells = [f"{ours.instructions:.1f} / {hand.instructions:.1f}"]
        cells += [f"{ours.cycles[cpu]:.1f} / {hand.cycles[cpu]:.1f}" if cpu in level.cpus else "" for cpu in CPUS]
        print(f"| {kernel.name} | {level.target} | " + " | ".join(cells) + " |")
    print("\n| kernel | level | " + " | ".join(CPUS) + " |")
    print("|" + "---|" * (2 + len(CPUS)))
    for level, kernel in CASES:
        if kernel.code in ("i2", "t3"):
            loop = main_loop(kernel, generated(level, kernel))
            cells = [f"{work(kernel, loop) / predict_cycles(loop, cpu):.1f}" if cpu in level.cpus else ""
                     for cpu in CPUS]
            print(f"| {kernel.name} | {level.target} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
