# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""make_onnx_corpus.py DIRECTORY: small models with everything that the importer looks at."""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name, shape=(2, 3), dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def array(values, name, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def branch(name, *nodes):
    return helper.make_graph(nodes, name, [], [value("r")], [array([1], "k")])


def external(name):
    tensor = TensorProto(name=name, data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": "weights.bin", "offset": "8", "length": "8"}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


NODE = helper.make_node
GRAPHS = {
    "shapes": [NODE("MatMul", ["x", "m"], ["a"]), NODE("Reshape", ["a", "s"], ["b"]),
               NODE("Transpose", ["b"], ["d"], perm=[1, 0]), NODE("Concat", ["d", "d"], ["e"], axis=-1),
               NODE("Gather", ["e", "i"], ["f"], axis=0), NODE("Slice", ["f", "i", "s", "", ""], ["y"])],
    "convolutions": [NODE("Unsqueeze", ["x", "i"], ["a"]),
                     NODE("Conv", ["a", "w"], ["b"], kernel_shape=[1, 1], pads=[0, 1, 0, 1], strides=[1, 2]),
                     NODE("MaxPool", ["b"], ["y", "q"], kernel_shape=[1, 2], ceil_mode=1)],
    "subgraphs": [NODE("If", ["c"], ["a"], then_branch=branch("t", NODE("Relu", ["x"], ["r"])),
                       else_branch=branch("e", NODE("Add", ["x", "k"], ["r"]))),
                  NODE("If", ["true"], ["y"], then_branch=branch("t", NODE("Neg", ["a"], ["r"])),
                       else_branch=branch("e", NODE("Neg", ["x"], ["r"])))],
    "functions": [NODE("F", ["x"], ["a"], domain="local", slope=0.5), NODE("F", ["a"], ["y"], domain="local")],
    "constants": [NODE("Constant", [], ["a"], value_ints=[1, 2]), NODE("Constant", [], ["b"], value=array([1], "v")),
                  NODE("Constant", [], ["d"], sparse_value=helper.make_sparse_tensor(
                      array([5], "v"), array([[0, 1]], "i", np.int64), [2, 2])),
                  NODE("Sum", ["a", "b", "d", "two", "four", "outside", "m"], ["y"], "sum", domain="com.example")],
}
INITIALIZERS = [array(np.ones((3, 3)), "m"), array(np.ones((4, 2, 1, 1)), "w"), array([3, -1], "s", np.int64),
                array([0], "i", np.int64), array(True, "true", bool), external("outside"),
                helper.make_tensor("two", TensorProto.INT2, [5], [-1, 0, 1, 1, 0]),
                helper.make_tensor("four", TensorProto.UINT4, [3], [1, 2, 15])]
LEAKY = NODE("LeakyRelu", ["v"], ["r"])
LEAKY.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
FUNCTION = helper.make_function("local", "F", ["v"], ["r"], [LEAKY], [helper.make_opsetid("", 17)], ["slope"])


def main(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for name, nodes in GRAPHS.items():
        for opset in (6, 12, 17, 25):
            graph = helper.make_graph(nodes, name, [value("x", ("n", 3)), value("c", (), TensorProto.BOOL)],
                                      [value("y", None)], INITIALIZERS, value_info=[value("a", ("n", None))])
            imports = [helper.make_opsetid(domain, version)
                       for domain, version in (("", opset), ("local", 1), ("com.example", 1))]
            model = helper.make_model(graph, ir_version=8, opset_imports=imports, functions=[FUNCTION])
            (directory / f"{name}-{opset}.onnx").write_bytes(model.SerializeToString())


main(pathlib.Path(sys.argv[1]))
