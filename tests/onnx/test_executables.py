# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests of ONNX's backend test data as executables and libraries; ONNXBackendTest
runs all of them in process."""

import ctypes
import json
import os
import pathlib
import resource
import subprocess

import ml_dtypes
import numpy
import onnx.numpy_helper
import onnx.parser
import pytest
from onnx import TensorProto, helper

TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
DATA = pathlib.Path("/usr/share/libonnx-testdata/data")

NODES = """
abs add_bcast add_uint8 and_bcast4v2d argmax_keepdims_random averagepool_2d_pads basic_conv_with_padding
batchnorm_epsilon cast_FLOAT_to_DOUBLE cast_FLOAT_to_FLOAT16 ceil clip concat_3d_axis_negative_2
constantofshape_int_zeros cumsum_2d_axis_1 depthtospace_example dequantizelinear_axis div_uint8
dynamicquantizelinear erf expand_dim_changed flatten_axis2 gather_elements_1 gather_negative_indices
gemm_all_attributes greater_bcast hardsigmoid layer_normalization_4d_axis2 matmul_4d matmulinteger
maxpool_2d_pads melweightmatrix mul_bcast nonmaxsuppression_two_classes nonzero_example onehot_with_axis prelu_broadcast quantizelinear_axis
reduce_mean_keepdims_random reshape_negative_extended_dims resize_upsample_sizes_nearest round scatternd shape
slice_neg_steps softmax_axis_1 split_equal_parts_2d squeeze_negative_axes tile top_k_negative_axis
unique_sorted_with_axis_3d transpose_all_permutations_2 tril_neg unsqueeze_three_axes where_example
""".split()
CASES = [f"node/test_{name}" for name in NODES] + [
    "pytorch-converted/test_Conv2d_groups", "pytorch-converted/test_Linear",
    "pytorch-operator/test_operator_pow", "simple/test_sign_model",
]


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(path):
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    array = onnx.numpy_helper.to_array(tensor)
    return array.view(numpy.uint16) if array.dtype == ml_dtypes.bfloat16 else array


def load_data(case):
    """Arrays of the first data set: inputs, outputs."""
    directory = DATA / case / "test_data_set_0"
    count = lambda kind: len(list(directory.glob(f"{kind}_*.pb")))
    return [[read(directory / f"{kind}_{i}.pb") for i in range(count(kind))] for kind in ("input", "output")]


def assert_near(actual, expected):
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    if expected.dtype.kind == "f":
        numpy.testing.assert_allclose(actual, expected, rtol=2e-3 if expected.dtype == "f2" else 1e-3, atol=1e-5)
    else:
        numpy.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("case", CASES)
def test_executable(case, tmp_path):
    program = tmp_path / "graph"
    run(TERCET, "compile", DATA / case / "model.onnx", "-o", program)
    info = json.loads(run(program, "--info"))
    inputs, expected = load_data(case)
    assert len(info["inputs"]) == len(inputs) and len(info["outputs"]) == len(expected)
    arguments = []
    for i, (tensor, array) in enumerate(zip(info["inputs"], inputs)):
        numpy.save(tmp_path / f"input{i}.npy", array)
        arguments += ["--input", f"{tensor['name']}={tmp_path}/input{i}.npy"]

    results = []
    for threads in (1, 3):
        files = [tmp_path / f"output{i}-{threads}.npy" for i in range(len(expected))]
        for tensor, file in zip(info["outputs"], files):
            arguments += ["--output", f"{tensor['name']}={file}"]
        run(program, *arguments, "--threads", threads)
        del arguments[-2 * len(files):]
        results.append([numpy.load(file) for file in files])
    for actual, again, wanted in zip(*results, expected):
        assert actual.tobytes() == again.tobytes()
        assert_near(actual, wanted)


# Types that NumPy has no name of: numbers, and the array that holds their codes.
CODES = {
    "BFLOAT16": ([1.5, -2, 0], numpy.uint16([0x3fc0, 0xc000, 0])),
    "FLOAT8E4M3FN": ([1.5, -2, 0], numpy.uint8([0x3c, 0xc0, 0])),
    "FLOAT8E4M3FNUZ": ([1.5, -2, 0], numpy.uint8([0x44, 0xc8, 0])),
    "FLOAT8E5M2": ([1.5, -2, 0], numpy.uint8([0x3e, 0xc0, 0])),
    "FLOAT8E5M2FNUZ": ([1.5, -2, 0], numpy.uint8([0x42, 0xc4, 0])),
    "FLOAT8E8M0": ([0.5, 1, 2.0**-127], numpy.uint8([126, 127, 0])),
    "FLOAT4E2M1": ([1.5, -2, 6], numpy.uint8([3, 12, 7])),
    "INT4": ([-8, 7, 1], numpy.int8([-8, 7, 1])),
    "UINT4": ([15, 0, 1], numpy.uint8([15, 0, 1])),
    "INT2": ([-2, 1, 0], numpy.int8([-2, 1, 0])),
    "UINT2": ([3, 0, 1], numpy.uint8([3, 0, 1])),
}


@pytest.mark.parametrize("name", CODES)
def test_codes(name, tmp_path):
    """Inputs and outputs of types below a byte, and of floats of 16 and fewer bits."""
    numbers, codes = CODES[name]
    dtype = getattr(TensorProto, name)
    program = tmp_path / "net"
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=dtype), helper.make_node("Cast", ["c"], ["z"], to=TensorProto.FLOAT)],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]), helper.make_tensor_value_info("c", dtype, [3])],
        [helper.make_tensor_value_info("y", dtype, [3]), helper.make_tensor_value_info("z", TensorProto.FLOAT, [3])])
    onnx.save(helper.make_model(graph, ir_version=13, opset_imports=[helper.make_opsetid("", 25)]), tmp_path / "net.onnx")
    run(TERCET, "compile", tmp_path / "net.onnx", "-o", program)
    numpy.save(tmp_path / "x.npy", numpy.float32(numbers))
    numpy.save(tmp_path / "c.npy", codes)
    arguments = [f"--input=x={tmp_path}/x.npy", f"--input=c={tmp_path}/c.npy"]
    run(program, *arguments, f"--output=y={tmp_path}/y.npy", f"--output=z={tmp_path}/z.npy")
    y, z = (numpy.load(tmp_path / f"{name}.npy") for name in "yz")
    assert y.dtype == codes.dtype
    numpy.testing.assert_array_equal(y, codes)
    numpy.testing.assert_array_equal(z, numpy.float32(numbers))


@pytest.mark.parametrize("opset", range(7, 29))
def test_opsets(opset, tmp_path):
    """Each from 7 on: operators whose axes, shapes and bounds moved from attributes to inputs."""
    initializers, nodes = [], []

    def add(op, inputs, since, values, name, **attributes):
        """With `values` as attribute `name`, and as an input `since` a version."""
        if opset >= since:
            initializers.append(onnx.numpy_helper.from_array(values, f"{op}.{name}"))
            inputs = [*inputs, f"{op}.{name}"]
        else:
            attributes[name] = values.tolist()
        nodes.append(helper.make_node(op, inputs, [op], **attributes))

    add("Unsqueeze", ["x"], 13, numpy.array([1]), "axes")
    add("Squeeze", ["Unsqueeze"], 13, numpy.array([1]), "axes")
    add("ReduceSum", ["Squeeze"], 13, numpy.array([1]), "axes")
    add("ReduceMax", ["Squeeze"], 18, numpy.array([-1]), "axes")
    nodes.append(helper.make_node("Softmax", ["x"], ["Softmax"]))
    nodes.append(helper.make_node("Sum", ["ReduceSum", "ReduceMax", "Softmax"], ["y"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])], initializers)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)]), tmp_path / "net.onnx")
    run(TERCET, "compile", tmp_path / "net.onnx", "-o", tmp_path / "net")
    x = numpy.float32([[1, -2, 0.5], [3, 1, 2]])
    numpy.save(tmp_path / "x.npy", x)
    run(tmp_path / "net", f"--input=x={tmp_path}/x.npy", f"--output=y={tmp_path}/y.npy")
    powers = numpy.exp(x)
    assert_near(numpy.load(tmp_path / "y.npy"),
                x.sum(1, keepdims=True) + x.max(1, keepdims=True) + powers / powers.sum(1, keepdims=True))


class Tensor(ctypes.Structure):
    """tercet_graph_tensor"""
    _fields_ = [("data", ctypes.c_void_p), ("shape", ctypes.c_int64 * 8)]


@pytest.mark.parametrize("case", ["node/test_gemm_all_attributes", "node/test_maxpool_2d_pads",
                                  "pytorch-converted/test_Linear"])
def test_library(case, tmp_path):
    path = tmp_path / "libgraph.so"
    run(TERCET, "compile", DATA / case / "model.onnx", "-o", path, "--emit=lib")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["graph.h", "libgraph.so"]
    library = ctypes.CDLL(str(path))
    library.tercet_graph_last_error.restype = ctypes.c_char_p
    graph = ctypes.c_void_p()
    assert library.tercet_graph_open(None, ctypes.byref(graph)) == 0, library.tercet_graph_last_error()
    inputs, (expected,) = load_data(case)
    tensors = (Tensor * len(inputs))(*(Tensor(a.ctypes.data, (ctypes.c_int64 * 8)(*a.shape)) for a in inputs))
    output = Tensor()
    for _ in range(2):
        status = library.tercet_graph_run(graph, tensors, ctypes.byref(output))
        assert status == 0, library.tercet_graph_last_error()
        assert tuple(output.shape[:expected.ndim]) == expected.shape
        floats = ctypes.cast(output.data, ctypes.POINTER(ctypes.c_float))
        assert_near(numpy.ctypeslib.as_array(floats, expected.shape), expected)
    library.tercet_graph_close(graph)


def test_refused_options(tmp_path):
    model = DATA / "node/test_abs/model.onnx"
    for option in ("--head=i8", "--context=10", "--kv=bf16"):
        done = subprocess.run([TERCET, "compile", model, "-o", tmp_path / "out", option], capture_output=True, text=True)
        assert done.returncode == 1 and "only language models have one" in done.stderr
    for command in ("run", "verify"):
        done = subprocess.run([TERCET, command, model], capture_output=True, text=True)
        assert done.returncode == 1 and "ONNX graph" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ("n", 2))
@pytest.mark.parametrize("limit", (9223372036854775807, 6, 3, 0))
def test_slices_of_a_loop(limit, size, tmp_path):
    """As torch exports loops: a count that is never reached, and slices whose extents a run tells."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        graph (float[{size}, 3] x) => (last, all) {{
          count = Constant <value_int = {limit}> ()
          yes = Constant <value = bool {{1}}> ()
          last, all = Loop (count, yes, x) <body = step (int64 i, bool going, float[{size}, 3] before)
              => (bool goes_on, float[{size}, 3] after, float[{size}, 3] slice) {{
            most = Constant <value_int = 4> ()
            goes_on = Less(i, most)
            after = Add(before, x)
            slice = Neg(after)
          }}>
        }}""")
    onnx.save(model, tmp_path / "net.onnx")
    run(TERCET, "compile", tmp_path / "net.onnx", "-o", tmp_path / "net")
    x = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    numpy.save(tmp_path / "x.npy", x)
    run(tmp_path / "net", f"--input=x={tmp_path}/x.npy", f"--output=all={tmp_path}/all.npy",
        f"--output=last={tmp_path}/last.npy")
    count = min(limit, 5)
    numpy.testing.assert_array_equal(numpy.load(tmp_path / "last.npy"), x * (count + 1))
    slices = numpy.load(tmp_path / "all.npy")
    assert slices.shape[0] == count
    for i in range(count):
        numpy.testing.assert_array_equal(slices[i], -x * (i + 2))


def test_slices_of_a_scan(tmp_path):
    """Stacked along the last axis and backward, of a symbolic extent."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        graph (float[n] start, float[4, n] x) => (last, all) {
          last, all = Scan <num_scan_inputs = 1, scan_output_axes = [-1], scan_output_directions = [1],
                            body = step (float[n] before, float[n] now) => (float[n] after, float[n] slice) {
            after = Add(before, now)
            slice = Identity(after)
          }> (start, x)
        }""")
    onnx.save(model, tmp_path / "net.onnx")
    run(TERCET, "compile", tmp_path / "net.onnx", "-o", tmp_path / "net")
    x, start = numpy.arange(12, dtype=numpy.float32).reshape(4, 3), numpy.float32([1, 2, 3])
    numpy.save(tmp_path / "x.npy", x)
    numpy.save(tmp_path / "start.npy", start)
    run(tmp_path / "net", f"--input=x={tmp_path}/x.npy", f"--input=start={tmp_path}/start.npy",
        f"--output=all={tmp_path}/all.npy", f"--output=last={tmp_path}/last.npy")
    sums = start + x.cumsum(axis=0)
    numpy.testing.assert_array_equal(numpy.load(tmp_path / "last.npy"), sums[-1])
    numpy.testing.assert_array_equal(numpy.load(tmp_path / "all.npy"), sums[::-1].T)


def test_branches_of_different_rank(tmp_path):
    """torch.squeeze(x, -1), as it is exported: the branch that squeezes is compiled, and runs that need the other refused."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        graph (float[M, N] x) => (y) {
          last = Constant <value_ints = [-1]> ()
          one = Constant <value_ints = [1]> ()
          shape = Shape(x)
          size = Gather(shape, last)
          condition = Equal(size, one)
          y = If (condition) <then_branch = squeeze () => (z) { z = Squeeze(x, last) },
                              else_branch = keep () => (z) { z = Identity(x) }>
        }""")
    onnx.save(model, tmp_path / "net.onnx")
    program, x, y = (tmp_path / name for name in ("net", "x.npy", "y.npy"))
    run(TERCET, "compile", tmp_path / "net.onnx", "-o", program)
    column = numpy.array([[1], [2]], numpy.float32)
    numpy.save(x, column)
    run(program, "--input", f"x={x}", "--output", f"y={y}")
    numpy.testing.assert_array_equal(numpy.load(y), [1, 2])
    numpy.save(x, column.repeat(3, axis=1))
    done = subprocess.run([program, "--input", f"x={x}"], capture_output=True, text=True)
    assert done.returncode == 1 and "another rank" in done.stderr


def run_within(megabytes, *command):
    """With so much memory of its own; what is mapped from files does not count."""
    size = megabytes << 20
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, preexec_fn=limit)
    assert done.returncode == 0, done.stderr


# Elements in the file itself begin wherever its other parts end.
@pytest.mark.parametrize("padding", (None, 0, 1, 2, 3), ids=("external", "0", "1", "2", "3"))
def test_weights_are_mapped(padding, tmp_path):
    """Neither the importer nor the compiler nor the executable copies 128 MiB."""
    model, program, data = (tmp_path / name for name in ("net.onnx", "net", "weights.bin"))
    table = numpy.zeros((1 << 19, 64), numpy.float32)
    table[-1] = range(64)
    tensor = onnx.numpy_helper.from_array(table, "table")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "row"], ["y"])], "g" * (1 + (padding or 0)),
        [helper.make_tensor_value_info("row", TensorProto.INT64, [1])], [helper.make_empty_tensor_value_info("y")],
        [tensor])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), model,
              save_as_external_data=padding is None, location=data.name)
    numpy.save(tmp_path / "row.npy", [len(table) - 1])

    run_within(96, TERCET, "compile", model, "-o", program)
    run_within(96, program, "--input", f"row={tmp_path}/row.npy", "--output", f"y={tmp_path}/y.npy")
    assert numpy.array_equal(numpy.load(tmp_path / "y.npy"), table[-1:])
    for path in (model, program, data):
        path.unlink(missing_ok=True)
