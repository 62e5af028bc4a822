#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How fast an ONNX graph is, compiled and in onnxruntime, measured in turns.

    compare_onnx.py net.onnx --batch 1,16 --threads 1,2
    compare_onnx.py net.onnx --dim sequence=128 --json
    compare_onnx.py net.onnx --layers

With --layers each ternary product is measured by itself, as a graph that begins
with the quantisation of its activations.

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
import onnx
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
    parser.add_argument("--layers", action="store_true", help="measure the ternary layers instead of the whole graph")
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


def find_quantised(graph, product):
    """What the activations of a product are before they are quantised: the one tensor
    that they are computed from, through a rounding."""
    number_of = {name: i for i, node in enumerate(graph.node) for name in node.output}
    variable = {info.name for info in graph.input} - {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if any(name in variable for name in node.input):
            variable.update(node.output)
    tensors = {product.input[0]}
    rounds = False
    while not (rounds and len(tensors) == 1):
        last = max(tensors, key=lambda name: number_of.get(name, -1))
        if last not in number_of:
            return None
        node = graph.node[number_of[last]]
        rounds |= node.op_type in ("Round", "QuantizeLinear", "DynamicQuantizeLinear")
        tensors.remove(last)
        tensors.update(name for name in node.input if name in variable)
    return tensors.pop()


def cut_layers(arguments, directory):
    """Names and files of the products that are recognised."""
    report = json.loads(run(arguments.tercet, "inspect", "--json", arguments.model))
    graph = onnx.load(arguments.model, load_external_data=False).graph
    layers = {}
    for entry in report["bit_linear"]:
        product = next(node for node in graph.node if node.name == entry["node"])
        source = find_quantised(graph, product)
        if not entry["remark"].startswith("recognised") or not source:
            continue
        name = entry["remark"].removeprefix("recognised ").split(",")[0]
        path = directory / f"layer-{len(layers)}.onnx"
        onnx.utils.extract_model(arguments.model, path, [source], [product.output[0]])
        layers[f"{name} ({product.name})"] = path
    return layers


class Case:
    """A graph, a batch size and a number of threads, on both sides."""

    def __init__(self, name, model, program, arguments, batch, threads, directory):
        self.name, self.batch, self.threads = name, batch, threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = make_inputs(self.session, arguments, batch)
        self.command = [program, "--threads", threads]
        for i, (name, value) in enumerate(self.inputs.items()):
            file = directory / f"{program.name}-{batch}-{i}.npy"
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
        return {"graph": self.name, "batch": self.batch, "threads": self.threads,
                "tercet_s": statistics.median(ours for ours, _ in self.rounds),
                "onnxruntime_s": statistics.median(theirs for _, theirs in self.rounds),
                "speedup": statistics.median(theirs / ours for ours, theirs in self.rounds),
                "difference": self.difference}


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        models = cut_layers(arguments, directory) if arguments.layers else {arguments.model.name: arguments.model}
        cases = []
        for i, (name, model) in enumerate(models.items()):
            program = directory / f"program-{i}"
            run(arguments.tercet, "compile", model, "-o", program, *arguments.compile.split())
            cases += [Case(name, model, program, arguments, batch, threads, directory)
                      for batch in arguments.batch for threads in arguments.threads]
        for _ in range(arguments.rounds):
            for case in cases:
                case.measure()
    reports = [case.report() for case in cases]
    if arguments.json:
        print(json.dumps({"model": arguments.model.name, "onnxruntime": onnxruntime.__version__,
                          "rounds": arguments.rounds, "cases": reports}))
        return
    name = None
    for report in reports:
        if report["graph"] != name:
            name = report["graph"]
            print(f"{name}\nbatch  threads  tercet ms  onnxruntime ms  speedup  difference")
        print(f"{report['batch']:5} {report['threads']:8} {1e3 * report['tercet_s']:10.3f} "
              f"{1e3 * report['onnxruntime_s']:15.3f} {report['speedup']:8.2f} {report['difference']:11.1e}")


if __name__ == "__main__":
    main()
