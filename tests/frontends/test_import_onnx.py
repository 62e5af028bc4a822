# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What ONNX files become: the module that tercet-import prints."""

import os
import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-import")


def value(name, shape=(2, 3), dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs=("x",), outputs=("y",), opset=21, domains=(), functions=(), **graph):
    infos = [[v if not isinstance(v, str) else value(v) for v in values] for values in (inputs, outputs)]
    return helper.make_model(
        helper.make_graph(nodes, "g", *infos, **graph), ir_version=10, functions=functions,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)])


def imported(path):
    result = subprocess.run([TOOL, path], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def text(tmp_path):
    def run(proto, **options):
        onnx.save(proto, tmp_path / "model.onnx", **options)
        return imported(tmp_path / "model.onnx")
    return run


def lines(text, op):
    return [line.strip() for line in text.splitlines() if f'"onnx.{op}"' in line]


def test_signature(text):
    out = text(model([helper.make_node("Relu", ["x"], ["y"])], [value("x", ("batch", 4, None))],
                     [value("y", ("batch", 4, None))]))
    assert ('func.func @graph(%arg0: tensor<?x4x?xf32> {onnx.dims = ["batch", "4", ""], onnx.name = "x", '
            'onnx.type = tensor<?x4x?xf32>}) -> (tensor<?x4x?xf32> {onnx.dims = ["batch", "4", ""], '
            'onnx.name = "y"})') in out
    assert "onnx.ir_version = 10" in out


def test_dimensions_without_a_name(text):
    out = text(model([helper.make_node("Relu", ["x"], ["y"])], [value("x", ("?", "?", "-1", -1, "2 * n"))]))
    assert 'onnx.dims = ["", "", "", "", "2 * n"], onnx.name = "x"' in out and "tensor<?x?x?x?x?xf32>" in out


def test_attributes(text):
    node = helper.make_node(
        "Op", ["x", "", "x"], ["y", "", "z", ""], "n", domain="com.example", i=1, f=0.5, s="a\n", ints=[1, 2],
        floats=[1.0, 2.0], strings=["a", "b"], t=numpy_helper.from_array(np.array([1, 2], np.uint8)))
    out = text(model([node], domains=["com.example"]))
    assert '"onnx.None"() : () -> none' in out
    [line] = lines(out, "com.example.Op")
    assert line == ('%1:3 = "onnx.com.example.Op"(%arg0, %0, %arg0) {f = 5.000000e-01 : f32, floats = array<f32: '
                    '1.000000e+00, 2.000000e+00>, i = 1 : i64, ints = array<i64: 1, 2>, onnx.version = 1 : i64, '
                    's = "a\\0A", strings = ["a", "b"], t = dense<[1, 2]> : tensor<2xui8>} : (tensor<2x3xf32>, none, '
                    'tensor<2x3xf32>) -> (tensor<2x3xf32>, !onnx.unknown, !onnx.unknown)')


def test_long_name_of_the_standard_domain(text):
    out = text(model([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")]))
    assert lines(out, "Relu")


# Elements as helper.make_tensor packs them into typed fields, or as raw bytes.
ELEMENTS = {
    "FLOAT": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf32>"),
    "DOUBLE": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf64>"),
    "FLOAT16": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf16>"),
    "BFLOAT16": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xbf16>"),
    "FLOAT8E4M3FN": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf8E4M3FN>"),
    "FLOAT8E4M3FNUZ": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf8E4M3FNUZ>"),
    "FLOAT8E5M2": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf8E5M2>"),
    "FLOAT8E5M2FNUZ": ([1.5, -2], "[1.500000e+00, -2.000000e+00]> : tensor<2xf8E5M2FNUZ>"),
    "FLOAT8E8M0": ([0.5, 2], "[5.000000e-01, 2.000000e+00]> : tensor<2xf8E8M0FNU>"),
    "FLOAT4E2M1": ([1.5, -2, 3], "[1.500000e+00, -2.000000e+00, 3.000000e+00]> : tensor<3xf4E2M1FN>"),
    "BOOL": ([True, False, True], "[true, false, true]> : tensor<3xi1>"),
    "INT8": ([-128, 127], "[-128, 127]> : tensor<2xi8>"),
    "UINT8": ([1, 255], "[1, 255]> : tensor<2xui8>"),
    "INT16": ([-2, 2], "[-2, 2]> : tensor<2xi16>"),
    "UINT16": ([1, 65535], "[1, 65535]> : tensor<2xui16>"),
    "INT32": ([-2, 2], "[-2, 2]> : tensor<2xi32>"),
    "UINT32": ([1, 4294967295], "[1, 4294967295]> : tensor<2xui32>"),
    "INT64": ([-2, 2], "[-2, 2]> : tensor<2xi64>"),
    "UINT64": ([1, 2**64 - 1], "[1, 18446744073709551615]> : tensor<2xui64>"),
    "INT4": ([-8, 7, 1], "[-8, 7, 1]> : tensor<3xi4>"),
    "UINT4": ([15, 0, 1], "[15, 0, 1]> : tensor<3xui4>"),
    "INT2": ([-1, 0, 1, -2, 1], "[-1, 0, 1, -2, 1]> : tensor<5xi2>"),
    "UINT2": ([3, 0, 1, 2, 1], "[3, 0, 1, 2, 1]> : tensor<5xui2>"),
}


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
@pytest.mark.parametrize("dtype", ELEMENTS)
def test_elements(text, dtype, raw):
    values, expected = ELEMENTS[dtype]
    tensor = helper.make_tensor("w", getattr(TensorProto, dtype), [len(values)], values)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
        assert tensor.raw_data and tensor.data_type == getattr(TensorProto, dtype)
    out = text(model([helper.make_node("Op", ["w"], ["y"])], [], initializer=[tensor]))
    assert f"dense<{expected}" in lines(out, "Constant")[0]


def test_scalars_and_empty_tensors(text):
    tensors = [numpy_helper.from_array(np.float32(3), "a"), numpy_helper.from_array(np.zeros((2, 0), np.int64), "b")]
    out = lines(text(model([helper.make_node("Op", ["a", "b"], ["y"])], [], initializer=tensors)), "Constant")
    assert "dense<3.000000e+00> : tensor<f32>" in out[0] and "dense<> : tensor<2x0xi64>" in out[1]


@pytest.mark.parametrize("value, expected", [
    ({"value_int": 3}, "dense<3> : tensor<i64>"),
    ({"value_ints": [3, 4]}, "dense<[3, 4]> : tensor<2xi64>"),
    ({"value_float": 3.0}, "dense<3.000000e+00> : tensor<f32>"),
    ({"value_floats": [3.0]}, "dense<3.000000e+00> : tensor<1xf32>"),
    ({"value": numpy_helper.from_array(np.int8([1, 2]))}, "dense<[1, 2]> : tensor<2xi8>"),
    ({"sparse_value": helper.make_sparse_tensor(numpy_helper.from_array(np.float32([5]), "v"),
                                                numpy_helper.from_array(np.array([2])), [2, 2])},
     "dense<[[0.000000e+00, 0.000000e+00], [5.000000e+00, 0.000000e+00]]> : tensor<2x2xf32>"),
    ({"sparse_value": helper.make_sparse_tensor(numpy_helper.from_array(np.float32([5]), "v"),
                                                numpy_helper.from_array(np.array([[0, 1]])), [2, 2])},
     "dense<[[0.000000e+00, 5.000000e+00], [0.000000e+00, 0.000000e+00]]> : tensor<2x2xf32>"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_constants(text, value, expected):
    out = text(model([helper.make_node("Constant", [], ["c"], **value), helper.make_node("Op", ["c"], ["y"])], []))
    assert f"value = {expected}" in lines(out, "Constant")[0]


def test_initializers_that_are_inputs_are_constants(text):
    tensor = numpy_helper.from_array(np.zeros((2, 3), np.float32), "w")
    out = text(model([helper.make_node("Add", ["x", "w"], ["y"])], ["x", "w"], initializer=[tensor]))
    assert "%arg0" in out and "%arg1" not in out and lines(out, "Constant")


def test_large_tensors_are_resources(text):
    tensor = numpy_helper.from_array(np.arange(2000, dtype=np.float32), "w")
    out = text(model([helper.make_node("Op", ["x", "w"], ["y"])], initializer=[tensor]))
    assert "dense_resource<w> : tensor<2000xf32>" in out


def test_external_data(text, tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = [numpy_helper.from_array(values, "a"), numpy_helper.from_array(values + 6, "b")]
    out = text(model([helper.make_node("Add", ["a", "b"], ["y"])], [], initializer=tensors),
               save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size >= 48
    assert re.findall(r"\[\[0\.0.*, 1\.0.*, 2\.0", out) and re.findall(r"\[\[6\.0.*, 7\.0.*, 8\.0", out)


def test_order(text):
    out = text(model([helper.make_node("Neg", ["b"], ["y"]), helper.make_node("Abs", ["a"], ["b"]),
                      helper.make_node("Relu", ["x"], ["a"])]))
    assert re.findall(r"onnx\.(Relu|Abs|Neg)\b", out) == ["Relu", "Abs", "Neg"]


def branch(name, *nodes, outputs=("r",), **graph):
    return helper.make_graph(list(nodes), name, [], [value(o) for o in outputs], **graph)


def test_subgraphs_are_regions(text):
    out = text(model([helper.make_node("Neg", ["x"], ["n"]),
                      helper.make_node("If", ["c"], ["y"],
                                       then_branch=branch("then", helper.make_node("Relu", ["n"], ["r"])),
                                       else_branch=branch("else", outputs=["w"], initializer=[
                                           numpy_helper.from_array(np.ones((2, 3), np.float32), "w")]))],
                     [value("c", (), TensorProto.BOOL), "x"]))
    assert 'onnx.regions = ["else_branch", "then_branch"]' in out or 'onnx.regions = ["then_branch", "else_branch"]' in out
    [relu], yields = lines(out, "Relu"), lines(out, "yield")
    assert "(%0)" in relu and len(yields) == 2


def test_order_sees_what_subgraphs_capture(text):
    out = text(model([helper.make_node("If", ["c"], ["y"],
                                       then_branch=branch("then", helper.make_node("Relu", ["n"], ["r"])),
                                       else_branch=branch("else", outputs=["x"])),
                      helper.make_node("Neg", ["x"], ["n"])], [value("c", (), TensorProto.BOOL), "x"]))
    assert out.index("onnx.Neg") < out.index("onnx.If")


def test_loop_bodies_have_arguments(text):
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "x"], ["s2"]), helper.make_node("Identity", ["k"], ["k2"])], "body",
        [value("i", (), TensorProto.INT64), value("k", (), TensorProto.BOOL), value("s")],
        [value("k2", (), TensorProto.BOOL), value("s2")])
    out = text(model([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], [value("n", (), TensorProto.INT64), "x"]))
    assert re.search(r"\^bb0\(%\w+: tensor<i64>, %\w+: tensor<i1>, %\w+: tensor<2x3xf32>\)", out)


@pytest.mark.parametrize("condition", [True, False])
def test_constant_condition(text, condition):
    out = text(model([helper.make_node("If", ["c"], ["y"],
                                       then_branch=branch("then", helper.make_node("Relu", ["x"], ["r"])),
                                       else_branch=branch("else", helper.make_node("Neg", ["x"], ["r"])))],
                     initializer=[numpy_helper.from_array(np.array(condition), "c")]))
    assert "onnx.If" not in out
    assert bool(lines(out, "Relu")) is condition and bool(lines(out, "Neg")) is not condition


def function(name, inputs, outputs, nodes, attributes=(), opset=18, **more):
    return helper.make_function("local", name, inputs, outputs, nodes, [helper.make_opsetid("", opset),
                                helper.make_opsetid("local", 1)], attributes, **more)


def reference(node, name, attribute, kind):
    node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=attribute, type=kind))
    return node


def test_functions_are_inlined(text):
    inner = function("Scale", ["v", "bias"], ["r"], [
        reference(helper.make_node("LeakyRelu", ["v"], ["l"], "leaky"), "alpha", "slope", onnx.AttributeProto.FLOAT),
        helper.make_node("Op", ["l", "bias"], ["r"])], ["slope"])
    outer = function("Twice", ["v"], ["r"], [
        helper.make_node("Scale", ["v"], ["l"], "first", domain="local", slope=0.5),
        helper.make_node("Scale", ["l", "v"], ["r"], "second", domain="local")])
    out = text(model([helper.make_node("Twice", ["x"], ["y"], "call", domain="local")], domains=["local"],
                     functions=[inner, outer]))
    first, second = lines(out, "LeakyRelu")
    assert "alpha = 5.0" in first and "alpha" not in second and "onnx.version = 18" in first
    assert "local" not in out and "onnx.None" in out


def test_attributes_of_functions_have_defaults(text):
    inner = function("F", ["v"], ["r"], [
        reference(helper.make_node("LeakyRelu", ["v"], ["r"]), "alpha", "slope", onnx.AttributeProto.FLOAT)],
        attribute_protos=[helper.make_attribute("slope", 0.25)])
    out = text(model([helper.make_node("F", ["x"], ["a"], domain="local"),
                      helper.make_node("F", ["a"], ["y"], domain="local", slope=0.5)],
                     domains=["local"], functions=[inner]))
    first, second = lines(out, "LeakyRelu")
    assert "alpha = 2.5" in first and "alpha = 5.0" in second


def test_types_that_the_file_declares(text):
    out = text(model([helper.make_node("Op", ["x"], ["a"]), helper.make_node("Op", ["a"], ["y"])],
                     value_info=[value("a", ("n", 7))]))
    assert "-> tensor<?x7xf32>" in lines(out, "Op")[0]


def test_names_locate_nodes(tmp_path):
    inner = function("F", ["v"], ["r"], [helper.make_node("Relu", ["v"], ["r"], "my relu")])
    onnx.save(model([helper.make_node("F", ["x"], ["a"], "call", domain="local"),
                     helper.make_node("Relu", ["a"], ["y"])], domains=["local"], functions=[inner]),
              tmp_path / "model.onnx")
    result = subprocess.run([TOOL, "--locations", tmp_path / "model.onnx"], capture_output=True, text=True)
    assert 'loc("call/my relu")' in result.stdout and 'loc("y")' in result.stdout
