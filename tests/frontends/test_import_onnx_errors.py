# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every way in which an ONNX file can be wrong, and the one line that says so."""

import os
import random
import subprocess

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from test_import_onnx import TOOL, branch, function, model, value


def run(path):
    return subprocess.run([TOOL, path], capture_output=True, timeout=60)


def error(path):
    result = run(path)
    message = result.stderr.decode()
    assert result.returncode == 1, result
    assert not result.stdout
    assert message.startswith("error: ") and message.count("\n") == 1, message
    assert f"{path}: " in message
    return message


@pytest.fixture
def refused(tmp_path):
    def check(proto, expected):
        path = tmp_path / "model.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        message = error(path)
        assert expected in message
    return check


def node(op="Op", inputs=("x",), outputs=("y",), name="n", **attributes):
    return helper.make_node(op, list(inputs), list(outputs), name, **attributes)


def array(values, name="w", dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def changed(proto, **fields):
    for name, field in fields.items():
        setattr(proto, name, field)
    return proto


# ---- The protobuf -----------------------------------------------------------

def test_empty(refused):
    refused(b"", "is empty")


def test_no_protobuf(refused):
    refused(b"\xff" * 100, "is no ONNX model: as a protobuf it is damaged")


def test_another_protobuf(refused):
    refused(helper.make_tensor("w", TensorProto.FLOAT, [1], [1]).SerializeToString(), "is no ONNX model")


def test_no_graph(refused):
    refused(onnx.ModelProto(ir_version=8), "it has no graph")


def test_truncated_anywhere(tmp_path):
    whole = model([node(inputs=["x", "w"])], initializer=[array(np.zeros(3000))]).SerializeToString()
    for length in (1, 10, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.onnx").write_bytes(whole[:length])
        error(tmp_path / "model.onnx")


def delimited(field, payload):
    """A length-delimited field of a protobuf message."""
    header, size = bytes([field << 3 | 2]), len(payload)
    while size > 127:
        header, size = header + bytes([size & 127 | 128]), size >> 7
    return header + bytes([size]) + payload


def nested_model(depth):
    """Subgraphs within each other: GraphProto.node.attribute.g."""
    graph = b""
    for _ in range(depth):
        graph = delimited(1, delimited(4, b"Op") + delimited(5, delimited(1, b"a") + delimited(6, graph) + b"\xa0\1\5"))
    return b"\x08\x0a" + delimited(8, b"\x10\x15") + delimited(7, graph)


def test_recursion(refused):
    refused(nested_model(3000), "nested deeper than 100 messages")


def test_nesting_within_limits(tmp_path):
    (tmp_path / "model.onnx").write_bytes(nested_model(30))
    assert run(tmp_path / "model.onnx").returncode == 0


def test_recursion_of_groups(refused):
    refused(b"\x08\x0a" + b"\x3b" * 100_000, "nested deeper than 100 messages")


def test_spoiled_files_never_crash(tmp_path):
    """Random edits; what is still valid may be imported."""
    whole = model([node("Add", ["x", "w"], ["a"]), node("Reshape", ["a", "s"], ["b"]),
                   node("If", ["c"], ["y"], then_branch=branch("then", node("Relu", ["b"], ["r"])),
                        else_branch=branch("else", node("F", ["b"], ["r"], domain="local")))],
                  ["x", value("c", (), TensorProto.BOOL)], domains=["local"],
                  functions=[function("F", ["v"], ["r"], [node("Softmax", ["v"], ["r"], axis=-1)])],
                  initializer=[array([[1, 2, 3]]), array([3, -1], "s", np.int64)]).SerializeToString()
    rng = random.Random(1)
    for _ in range(100):
        spoiled = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            spoiled[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / "model.onnx").write_bytes(spoiled)
        assert run(tmp_path / "model.onnx").returncode in (0, 1)


# ---- Versions ---------------------------------------------------------------

@pytest.mark.parametrize("version", [2, 99])
def test_ir_version(refused, version):
    refused(changed(model([node()]), ir_version=version), f"has IR version {version}; 3 to ")


@pytest.mark.parametrize("version", [0, 99])
def test_opset(refused, version):
    refused(model([node()], opset=version), f"uses opset {version} of ONNX; 1 to ")


def test_domain_without_version(refused):
    refused(model([node(domain="com.example")]), "node 'n' (Op): its domain 'com.example' is not among those")


# ---- Names ------------------------------------------------------------------

def with_attributes(*names):
    result = node()
    for name in names:
        result.attribute.add(name=name, type=AttributeProto.INT)
    return result


UNDEFINED = "is no input, initializer or result of a node"

NAMES = {
    "input-undefined": (model([node(inputs=["gone"])]), f"node 'n' (Op): its input 'gone' {UNDEFINED}"),
    "output-undefined": (model([node()], outputs=["gone"]), f"output 'gone' of graph 'g' {UNDEFINED}"),
    "output-unnamed": (model([node()], outputs=[value("")]), f"output '' of graph 'g' {UNDEFINED}"),
    "cycle": (model([node(inputs=["b"], outputs=["a"]), node("Neg", ["a"], ["b"], "m"), node(inputs=["a"])]),
              "node 'n' (Op): depends on its own result"),
    "cycle-of-one": (model([node(inputs=["y"])]), "depends on its own result"),
    "cycle-in-subgraph": (model([node("If", ["c"], ["y"], then_branch=branch("t", node("Neg", ["y"], ["r"])))],
                                [value("c", (), TensorProto.BOOL)]), "node 'n' (If): depends on its own result"),
    "output-twice": (model([node(), node()]), "its output 'y' is defined twice"),
    "output-twice-in-one": (model([node(outputs=["y", "y"])]), "its output 'y' is defined twice"),
    "output-is-input": (model([node(outputs=["x"])]), "depends on its own result"),
    "output-is-initializer": (model([node(outputs=["w"])], initializer=[array([1])]), "its output 'w' is defined twice"),
    "initializer-twice": (model([node()], initializer=[array([1]), array([2])]), "value 'w' of graph 'g' is defined twice"),
    "input-twice": (model([node()], ["x", "x"]), "input 'x': is listed twice"),
    "subgraph-input-twice": (model([node(body=helper.make_graph([], "b", [value("i"), value("i")], []))]),
                             "value 'i' of graph 'b' is defined twice"),
    "operator-unnamed": (model([node("")]), "'' of domain '' is no operator's name"),
    "operator-name": (model([node("a b")]), "'a b' of domain '' is no operator's name"),
    "attribute-twice": (model([with_attributes("a", "a")]), "has attribute 'a' twice"),
    "attribute-unnamed": (model([with_attributes("")]), "has attribute '' twice, or that is no name"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(refused, name):
    refused(*NAMES[name])


def test_messages_are_one_printable_line(refused, tmp_path):
    refused(model([node(inputs=["gone\n\x1b[31m" + "b" * 5000])]), "its input 'gone??[31m")
    assert len(error(tmp_path / "model.onnx")) < 1200


# ---- Values -----------------------------------------------------------------

def typed(kind):
    return helper.make_value_info("x", kind)


FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
VALUES = {
    "sequence": (typed(helper.make_sequence_type_proto(FLOATS)), "input 'x': is no tensor"),
    "optional": (typed(helper.make_optional_type_proto(FLOATS)), "input 'x': is no tensor"),
    "untyped": (onnx.ValueInfoProto(name="x"), "input 'x': is no tensor"),
    "strings": (value("x", (2,), TensorProto.STRING), "input 'x': has elements of STRING"),
    "complex": (value("x", (2,), TensorProto.COMPLEX64), "input 'x': has elements of COMPLEX64"),
    "unknown": (value("x", (2,), 99), "input 'x': has elements of data type 99"),
    "shapeless": (value("x", None), "input 'x': has no shape"),
    "absurd": (value("x", (2**40, 2**40)), "its size overflows 64 bits"),
}


@pytest.mark.parametrize("name", VALUES)
def test_inputs(refused, name):
    info, expected = VALUES[name]
    refused(model([node()], [info]), expected)


def test_output_is_sequence(refused):
    info = helper.make_value_info("y", helper.make_sequence_type_proto(FLOATS))
    refused(model([node()], outputs=[info]), "output 'y' is no tensor")


# ---- Tensors ----------------------------------------------------------------

def raw(dtype=TensorProto.FLOAT, dims=(2,), data=b"", **fields):
    return TensorProto(name="w", data_type=dtype, dims=dims, raw_data=data, **fields)


def sparse(indices, values=(5.0,), dims=(2, 2)):
    return helper.make_sparse_tensor(array(values), numpy_helper.from_array(np.array(indices)), dims)


TENSORS = {
    "size": (raw(data=b"1234567"), "tensor 'w': has 7 bytes of data, but FLOAT of shape [2] needs 8"),
    "size-typed": (TensorProto(name="w", data_type=TensorProto.INT8, dims=[3], int32_data=[1, 2]),
                   "has 2 bytes of data, but INT8 of shape [3] needs 3"),
    "size-of-int2": (raw(TensorProto.INT2, (5,), b"1"), "has 1 bytes of data, but INT2 of shape [5] needs 2"),
    "size-large": (raw(dims=(2000,), data=b"1" * 7999), "has 7999 bytes of data"),
    "no-data": (raw(), "has 0 bytes of data"),
    "negative": (raw(dims=(-2,)), "has shape [-2], which no tensor can have"),
    "overflow": (raw(dims=(2**40, 2**40)), "which no tensor can have"),
    "overflow-zero": (raw(dims=(2**40, 2**40, 0)), "which no tensor can have"),
    "huge": (raw(dims=(2**50,)), "has 0 bytes of data"),
    "strings": (helper.make_tensor("w", TensorProto.STRING, [1], [b"a"]), "has elements of STRING"),
    "complex": (array([1j], dtype=np.complex64), "has elements of COMPLEX64"),
    "undefined": (raw(0), "has elements of UNDEFINED"),
    "unknown": (raw(99), "has elements of data type 99"),
    "segment": (raw(data=b"12345678", segment=TensorProto.Segment(begin=0, end=2)), "is one segment of a tensor"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(refused, name):
    tensor, expected = TENSORS[name]
    refused(model([node(inputs=["w"])], [], initializer=[tensor]), expected)
    refused(model([node("Constant", [], ["c"], value=tensor)], []), expected)


SPARSE = {
    "outside": (sparse([4]), "its index 0 lies outside shape [2, 2]"),
    "negative": (sparse([-1]), "its index 0 lies outside"),
    "coordinates": (sparse([[0, 2]]), "its index 0 lies outside"),
    "number": (sparse([0, 1]), "is sparse with 1 values, which need as many int64 indices"),
    "huge": (sparse([0], dims=(2**20, 2**20)), "is sparse of shape [1048576, 1048576]"),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_tensors(refused, name):
    tensor, expected = SPARSE[name]
    refused(model([node(inputs=["w"])], [], sparse_initializer=[tensor]), expected)


def test_constant_of_strings(refused):
    refused(model([node("Constant", [], value_string="a")], []), "its 'value_string' is not supported")


def test_constant_without_value(refused):
    refused(model([node("Constant", [])], []), "must have one attribute")


def test_attribute_kinds(refused):
    refused(model([node(type=FLOATS)]), "its attribute 'type' is of a kind that is not supported (TYPE_PROTO)")


def test_constant_condition_without_branch(refused):
    refused(model([node("If", ["c"], then_branch=branch("t", outputs=["x"]))],
                  initializer=[array(False, "c", bool)]), "has no else_branch")


def test_constant_condition_with_few_outputs(refused):
    refused(model([node("If", ["c"], ["y", "z"], then_branch=branch("t", outputs=["x"]))],
                  initializer=[array(True, "c", bool)]), "its then_branch has 1 outputs; 2 are needed")


# ---- Functions --------------------------------------------------------------

def calls(*functions, call=None):
    return model([call or node("F", domain="local")], domains=["local"], functions=functions)


def call(name, output="r", **attributes):
    return node(name, ["v"], [output], "c", domain="local", **attributes)


FUNCTIONS = {
    "recursive": (calls(function("F", ["v"], ["r"], [call("F")])), "lies more than 64 subgraphs and calls"),
    "mutually-recursive": (calls(function("F", ["v"], ["r"], [call("G")]), function("G", ["v"], ["r"], [call("F")])),
                           "lies more than 64 subgraphs and calls"),
    "twice": (calls(*[function("F", ["v"], ["v"], [])] * 2), "function 'F': is defined twice"),
    "many-nodes": (calls(*[function("F" * n, ["v"], ["r"], [call("F" * (n + 1), "a"), call("F" * (n + 1))])
                           for n in range(1, 40)], function("F" * 40, ["v"], ["v"], [])),
                   "has more than 1000000 nodes once its functions are inlined"),
    "inputs": (calls(function("F", [], ["r"], [])), "has more inputs or outputs than the function"),
    "outputs": (calls(function("F", ["v"], [], [])), "has more inputs or outputs than the function"),
    "input-twice": (calls(function("F", ["v", "v"], ["v"], [])), "input 'v' of its function is defined twice"),
    "output-undefined": (calls(function("F", ["v"], ["r"], [])), "its function does not define its output 'r'"),
    "opset": (calls(function("F", ["v"], ["v"], [], opset=99)), "function 'F': uses opset 99"),
    "graph": (calls(function("F", ["v"], ["v"], []), call=node("F", domain="local", body=branch("b", outputs=["x"]))),
              "passes graph 'body' to a function"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(refused, name):
    refused(*FUNCTIONS[name])


# ---- External data ----------------------------------------------------------

def external(location="weights.bin", dims=(2,), **fields):
    tensor = raw(dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=str(text))
    return model([node(inputs=["w"])], [], initializer=[tensor])


WITHIN = "must be a path within the model's directory"
EXTERNAL = {
    "missing": (external("gone.bin"), "cannot open its external data"),
    "no-location": (external(""), WITHIN),
    "absolute": (external("/etc/passwd"), WITHIN),
    "parent": (external("../outside.bin"), WITHIN),
    "parent-below": (external("below/../../outside.bin"), WITHIN),
    "zero-byte": (external("weights.bin\0"), WITHIN),
    "link": (external("link.bin"), "link.bin is a symbolic link"),
    "link-to-directory": (external("out/outside.bin"), "out is a symbolic link"),
    "hard-link": (external("hard.bin"), "hard.bin has another name (a hard link)"),
    "directory": (external("below"), "below is not a regular file"),
    "fifo": (external("fifo"), "fifo is not a regular file"),
    "truncated": (external(dims=(5,)), "20 bytes at 0 of 'weights.bin' lie outside that file of 16 bytes"),
    "offset": (external(offset=12), "8 bytes at 12 of 'weights.bin' lie outside"),
    "offset-huge": (external(offset=2**64 - 4), "lie outside"),
    "offset-negative": (external(offset=-4), "offset '-4' of its external data is no size"),
    "offset-overflow": (external(offset=2**64), "is no size"),
    "length": (external(length=4), "has 4 bytes of external data, but its type and shape need 8"),
    "length-text": (external(length="x"), "length 'x' of its external data is no size"),
}


@pytest.mark.parametrize("name", EXTERNAL)
def test_external_data(tmp_path, name):
    directory = tmp_path / "model"
    (directory / "below").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(bytes(16))
    (directory / "weights.bin").write_bytes(bytes(16))
    (directory / "link.bin").symlink_to("weights.bin")
    (directory / "out").symlink_to(tmp_path)
    os.link(tmp_path / "outside.bin", directory / "hard.bin")
    os.mkfifo(directory / "fifo")
    proto, expected = EXTERNAL[name]
    (directory / "model.onnx").write_bytes(proto.SerializeToString())
    message = error(directory / "model.onnx")
    assert "tensor 'w': " in message and expected in message


def test_external_data_below_the_directory(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "weights.bin").write_bytes(bytes(16))
    (tmp_path / "model.onnx").write_bytes(external("./below/weights.bin", offset=8).SerializeToString())
    assert run(tmp_path / "model.onnx").returncode == 0
