#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How fast an ONNX graph is, compiled and in onnxruntime, measured in turns.

    compare_onnx.py net.onnx --batch 1,16 --threads 1,2
    compare_onnx.py net.onnx --dim sequence=128 --json

A round runs everything once, so that what a shared machine does to one it does to
all; times are medians of the rounds' medians, ratios medians of the ratios within a
round. The outputs of both are compared first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 1  # of a measurement, as the executable's --bench


def numbers(text):
    return [int(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tercet", type=Path, default=ROOT / "build/bin/tercet")
    parser.add_argument("--batch", type=numbers, default=[1], metavar="LIST",
                        help="values of the extents that have a name and no --dim")
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="the value of a named extent")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=FILE",
                        help="an .npy file; other inputs are random")
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="LIST")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", default="", metavar="OPTIONS", help="further options of `tercet compile`")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args()


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare_onnx.py: error: {command[0]}: {done.stderr}")
    return done.stdout


def make_inputs(session, arguments, batch):
    """Values of every input, which random ones repeat in each run of this script."""
    random = numpy.random.default_rng(1)
    dims = {name: int(value) for name, value in (text.rsplit("=", 1) for text in arguments.dim)}
    files = dict(text.split("=", 1) for text in arguments.input)
    inputs = {}
    for info in session.get_inputs():
        if info.name in files:
            inputs[info.name] = numpy.load(files[info.name])
            continue
        shape = [extent if isinstance(extent, int) else dims.get(extent, batch) for extent in info.shape]
        if info.type in ("tensor(float)", "tensor(float16)", "tensor(double)"):
            value = random.standard_normal(shape)
        else:
            value = random.integers(0, 2, shape)
        inputs[info.name] = value.astype({"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8",
                                          "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(uint8)": "u1",
                                          "tensor(int8)": "i1", "tensor(bool)": "?"}[info.type])
    return inputs


class Case:
    """A batch size and a number of threads, on both sides."""

    def __init__(self, program, arguments, batch, threads, directory):
        self.batch, self.threads = batch, threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
        self.inputs = make_inputs(self.session, arguments, batch)
        self.command = [program, "--threads", threads]
        for i, (name, value) in enumerate(self.inputs.items()):
            file = directory / f"input-{batch}-{i}.npy"
            numpy.save(file, numpy.asarray(value, order="C"))
            self.command += ["--input", f"{name}={file}"]
        self.check(directory)
        self.rounds = []

    def check(self, directory):
        """Sets the largest difference of an output, relative to its largest value."""
        names = [info.name for info in self.session.get_outputs()]
        files = [directory / f"output-{i}.npy" for i in range(len(names))]
        run(*self.command, *(word for name, file in zip(names, files) for word in ("--output", f"{name}={file}")))
        self.difference = 0
        for file, expected in zip(files, self.session.run(names, self.inputs)):
            distance = numpy.abs(numpy.load(file).astype("f8") - expected.astype("f8")).max(initial=0)
            largest = numpy.abs(expected.astype("f8")).max(initial=1e-30)
            self.difference = max(self.difference, distance / largest)

    def measure_onnxruntime(self):
        self.session.run(None, self.inputs)
        times, start = [], time.perf_counter()
        while len(times) < 5 or time.perf_counter() - start < SECONDS:
            before = time.perf_counter()
            self.session.run(None, self.inputs)
            times.append(time.perf_counter() - before)
        return statistics.median(times)

    def measure(self):
        ours = json.loads(run(*self.command, "--bench", "--json"))["median_s"]
        self.rounds.append((ours, self.measure_onnxruntime()))

    def report(self):
        return {"batch": self.batch, "threads": self.threads,
                "tercet_s": statistics.median(ours for ours, _ in self.rounds),
                "onnxruntime_s": statistics.median(theirs for _, theirs in self.rounds),
                "speedup": statistics.median(theirs / ours for ours, theirs in self.rounds),
                "difference": self.difference}


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        program = directory / "program"
        run(arguments.tercet, "compile", arguments.model, "-o", program, *arguments.compile.split())
        cases = [Case(program, arguments, batch, threads, directory)
                 for batch in arguments.batch for threads in arguments.threads]
        for _ in range(arguments.rounds):
            for case in cases:
                case.measure()
    reports = [case.report() for case in cases]
    if arguments.json:
        print(json.dumps({"model": arguments.model.name, "onnxruntime": onnxruntime.__version__,
                          "rounds": arguments.rounds, "cases": reports}))
        return
    print("batch  threads  tercet ms  onnxruntime ms  speedup  difference")
    for report in reports:
        print(f"{report['batch']:5} {report['threads']:8} {1e3 * report['tercet_s']:10.3f} "
              f"{1e3 * report['onnxruntime_s']:15.3f} {report['speedup']:8.2f} {report['difference']:11.1e}")


if __name__ == "__main__":
    main()
