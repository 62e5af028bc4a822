#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How many times as fast as another engine a compiled model is.

    compare.py ./model 'llama.cpp=llama-bench -m model.gguf'
    compare.py ./model ./other-model --rounds 9 --threads 1

Each program is an executable that `tercet compile` made, or NAME=COMMAND, an engine
that takes llama-bench's -p, -n, -t, -r and -o json. A round runs everything once, in
an order that is turned around from round to round, so that what a shared machine does
to one it does to all. Printed are medians, and the ratio of the first program to each
other: the geometric mean of the ratios within a round, with its 95 % confidence
interval (Student's t on their logarithms).
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

PHASES = ("prefill", "decode")
# Quantile 0.975 of Student's t for 1, 2, 3, ... degrees of freedom; then that of the
# normal distribution, which is a little less.
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {shlex.join(map(str, command))}\n{done.stderr}")
    return done.stdout


class Program:
    """An executable of ours."""

    def __init__(self, path, name=None):
        self.path, self.name = Path(path).resolve(), name or str(path)

    def measure(self, arguments):
        """{(phase, threads): (tokens/s, fraction of the limit)}"""
        rates = {}
        for threads in sorted(arguments.threads, reverse=True):
            if ("decode", threads) in rates:
                continue  # one thread is always measured as well
            self.report = json.loads(run([self.path, "--bench", "--json", "--rounds", "1", "--threads", str(threads),
                                          "--prompt", str(arguments.prompt), "--gen", str(arguments.gen)]))
            for phase, fraction in zip(PHASES, ("fraction_of_dot_peak", "fraction_of_read")):
                for row in self.report[phase]:
                    rates[phase, row["threads"]] = row["tokens_per_s"], row[fraction]
        return rates


class Peer:
    """llama-bench or a program with its flags."""

    def __init__(self, text):
        self.name, _, command = text.partition("=")
        self.command = shlex.split(command)

    def measure(self, arguments):
        rates = {}
        for threads in arguments.threads:
            rows = json.loads(run([*self.command, "-p", str(arguments.prompt), "-n", str(arguments.gen), "-t",
                                   str(threads), "-r", "1", "-o", "json"]))
            for row in rows:
                rates["decode" if row["n_gen"] else "prefill", threads] = row["avg_ts"], None
        return rates


def measure_in_turns(programs, arguments):
    """A dictionary from name to `measure` for each round."""
    samples = []
    for number in range(arguments.rounds):
        samples.append({})
        for program in programs[:: -1 if number % 2 else 1]:
            samples[-1][program.name] = program.measure(arguments)
            print(f"round {number + 1}: {program.name}", file=sys.stderr)
    return samples


def interval(ratios):
    """(geometric mean, low, high)"""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) == 1:
        return math.exp(mean), 0.0, math.inf
    quantile = STUDENT[len(logs) - 2] if len(logs) - 2 < len(STUDENT) else 1.96
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return tuple(math.exp(mean + sign * half) for sign in (0, -1, 1))


def ratios(samples, ours, theirs, key):
    return [sample[ours][key][0] / sample[theirs][key][0] for sample in samples]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda text: [int(t) for t in text.split(",")], default=[1, 2])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="every round, as one JSON object")
    arguments = parser.parse_args()
    programs = [Peer(text) if "=" in text else Program(text) for text in arguments.programs]
    samples = measure_in_turns(programs, arguments)
    keys = [(phase, threads) for phase in PHASES for threads in arguments.threads]
    if arguments.json:
        rows = [{"round": number, "program": name, "phase": key[0], "threads": key[1], "tokens_per_s": rates[key][0]}
                for number, sample in enumerate(samples) for name, rates in sample.items() for key in keys]
        print(json.dumps({"rounds": rows}))
        return
    first, *others = programs
    for key in keys:
        print("{} {}T".format(*key))
        for program in programs:
            rate = statistics.median(sample[program.name][key][0] for sample in samples)
            line = f"  {program.name:24} {rate:10.1f} tokens/s"
            if program in others:
                line += "   ratio {:.2f} ({:.2f} to {:.2f})".format(
                    *interval(ratios(samples, first.name, program.name, key)))
            print(line)


if __name__ == "__main__":
    main()
