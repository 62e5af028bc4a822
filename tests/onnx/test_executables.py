# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests of ONNX's backend test data as executables and libraries; ONNXBackendTest
runs all of them in process."""

import ctypes
import json
import os
import pathlib
import subprocess

import ml_dtypes
import numpy
import onnx.numpy_helper
import onnx.parser
import pytest

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
