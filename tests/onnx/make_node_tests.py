#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes the node tests of the installed onnx package, whose operator sets are newer
than those of Debian's test data, as test data for ONNXBackendTest.

    make_node_tests.py DIRECTORY
"""

import shutil
import sys
from pathlib import Path

import numpy
import onnx
from onnx.backend.test.case.node import collect_testcases


def serialize(value, info):
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    kind = info.type.WhichOneof("value")
    if kind == "tensor_type":
        return onnx.numpy_helper.from_array(numpy.asarray(value), info.name).SerializeToString()
    convert = {"sequence_type": onnx.numpy_helper.from_list, "optional_type": onnx.numpy_helper.from_optional}
    return convert[kind](value, info.name).SerializeToString()


def write(case, directory):
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(case.model.SerializeToString())
    graph = case.model.graph
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = directory / f"test_data_set_{number}"
        data.mkdir()
        for kind, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for i, (value, info) in enumerate(zip(values, infos)):
                (data / f"{kind}_{i}.pb").write_bytes(serialize(value, info))


def main():
    root = Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    numpy.random.seed(0)
    for case in collect_testcases(None):
        write(case, root / "node" / case.name)


if __name__ == "__main__":
    main()
