# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""BitLinear layers as training code and quantisation tools write them into ONNX
files: each is recognised, and computes what onnxruntime says. A changed graph is
not, and does too."""

import os
import subprocess
from pathlib import Path

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # no C++ compiler at test time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from isa_levels import run_at_levels

torch = pytest.importorskip("torch")
bitnet = pytest.importorskip("transformers.integrations.bitnet")

TERCET = Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
K, M, TOKENS = 64, 32, 5


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def recognised(path):
    """What the compiler says of the products in a file."""
    log = run(TERCET, "compile", path, "--compile-to=recognise", "--explain", "-o", f"{path}.mlir").stderr
    return [line.removeprefix("remark: ") for line in log.splitlines() if "recognised" in line]


def assert_same_result(path, x, reference=None):
    """Equal to what onnxruntime says of `reference` but for the order of sums, and
    activations that are rounded the other way because their scale is one ulp off."""
    program, source, target = (path.with_suffix(suffix) for suffix in (".exe", ".x.npy", ".y.npy"))
    options = ort.SessionOptions()  # its optimiser replaces float products by others
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(reference or path, options)
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    [expected] = session.run(None, {name: x})
    np.save(source, x)
    run(TERCET, "compile", path, "-o", program)
    run(program, "--input", f"{name}={source}", "--output", f"{output}={target}")
    actual = np.load(target)
    assert actual.shape == expected.shape
    difference = np.abs(actual - expected) / np.abs(expected).max()
    assert np.median(difference) < 1e-6 and difference.max() < 0.02


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def draw_trits():
    return np.random.default_rng(1).integers(-1, 2, (M, K)).astype(np.float32)


# Modules of torch.


class BitLinear(torch.nn.Linear):
    """Of "The Era of 1-bit LLMs: Training Tips, Code and FAQ"."""

    def forward(self, x):
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        scale = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        x = x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()
        w = self.weight
        scale = 1.0 / w.abs().mean().clamp(min=1e-5)
        w = w + ((w * scale).round().clamp(-1, 1) / scale - w).detach()
        return torch.nn.functional.linear(x, w, self.bias)


class GroupedBitLinear(torch.nn.Linear):
    """A scale for each 16 weights of a row; x / step; the estimator reversed."""

    def forward(self, x):
        step = (x.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-5 / 127)
        x = x - (x - torch.clamp(torch.round(x / step), -128, 127) * step).detach()
        w = self.weight.reshape(M, -1, 16)
        scale = w.abs().mean(-1, keepdim=True).clamp(min=1e-5)
        w = ((w / scale).round().clamp(-1, 1) * scale).reshape(M, K)
        return torch.nn.functional.linear(x, w)


def make_hf(kind):
    """transformers' own layers, with weights packed by its own packer."""
    packed = bitnet.pack_weights(torch.from_numpy(draw_trits()))
    if kind == "bitlinear":
        layer = bitnet.BitLinear(K, M, bias=False, dtype=torch.float32)
        layer.weight = packed
        layer.weight_scale.fill_(1 / 0.03)
        return layer
    online = kind == "online"
    layer = bitnet.AutoBitLinear(K, M, bias=False, online_quant=online)
    if not online:
        layer.weight = torch.nn.Parameter(bitnet.unpack_weights(packed, torch.float32))
        layer.weight_scale.fill_(0.03)
    return layer


MODULES = {
    "faq": (lambda: BitLinear(K, M), "scale per tensor"),
    "groups": (lambda: GroupedBitLinear(K, M), "scale per group of 16"),
    "hf-bitlinear": (lambda: make_hf("bitlinear"), "scale per tensor"),
    "hf-offline": (lambda: make_hf("offline"), "scale per tensor"),
    "hf-online": (lambda: make_hf("online"), "scale per tensor"),
}


@pytest.mark.parametrize("rank", (2, 3))
@pytest.mark.parametrize("exporter", ("legacy", "dynamo"))
@pytest.mark.parametrize("name", MODULES)
def test_module(name, exporter, rank, tmp_path):
    torch.manual_seed(0)
    make, scale = MODULES[name]
    x = draw(*(2, TOKENS)[:rank - 1], K)
    path = tmp_path / "layer.onnx"
    options = {} if exporter == "legacy" else {"external_data": False, "verbose": False}
    torch.onnx.export(make().eval(), (torch.from_numpy(x),), path, dynamo=exporter == "dynamo",
                      opset_version=18, **options)
    assert recognised(path) == [f"recognised BitLinear {K}x{M}, {scale}"]
    assert_same_result(path, x)


# Graphs by hand.


class Graph:
    """A graph of one product, x [TOKENS, K] to y."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value, dtype))
        tensor.name = name
        self.constants.append(tensor)
        return name

    def add(self, op, *inputs, domain="", output=None, **attributes):
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def save(self, path, opset=21):
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", K])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", M])], self.constants)
        domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)

    def quantise(self, bound=1e-5):
        """x as integers, and their scale."""
        absmax = self.add("ReduceMax", self.add("Abs", "x"), self.constant([-1], np.int64))
        scale = self.add("Div", 127, self.add("Max", absmax, bound))
        return self.add("Clip", self.add("Round", self.add("Mul", "x", scale)), -128, 127), scale

    def fake_quantise(self, **options):
        return self.add("Div", *self.quantise(**options))


def make_weights(kind):
    """Weights of a product, [K, M], and what is said of their scales."""
    trits = draw_trits().T
    rng = np.random.default_rng(2)
    if kind == "tensor":
        return trits * np.float32(0.03), "per tensor"
    if kind == "row":
        return trits * rng.uniform(0.01, 0.1, M).astype(np.float32), "per row"
    scales = rng.uniform(0.01, 0.1, (K // 32, M)).astype(np.float32)
    return trits * scales.repeat(32, 0), "per group of 32"


def expect(graph, path, *remarks, opset=21, reference=None):
    graph.save(path, opset)
    assert recognised(path) == list(remarks)
    assert_same_result(path, draw(TOKENS, K), reference)


def save_reference(weights, path):
    """The BitLinear in floats, for graphs that onnxruntime does not know."""
    graph = Graph()
    graph.add("MatMul", graph.fake_quantise(), weights, output="y")
    graph.save(path)
    return path


@pytest.mark.parametrize("kind", ("tensor", "row", "group"))
@pytest.mark.parametrize("product", ("MatMul", "Transpose", "Gemm", "MatMulInteger", "after"))
def test_product(product, kind, tmp_path):
    weights, scale = make_weights(kind)
    graph = Graph()
    if product == "MatMul":
        graph.add("MatMul", graph.fake_quantise(), weights, output="y")
    elif product == "Transpose":
        graph.add("MatMul", graph.fake_quantise(), graph.add("Transpose", weights.T, perm=[1, 0]), output="y")
    elif product == "Gemm":
        graph.add("Gemm", graph.fake_quantise(), weights.T, draw(M), alpha=0.5, beta=2.0, transB=1, output="y")
    elif product == "after":
        q, activation_scale = graph.quantise()
        graph.add("Div", graph.add("MatMul", q, weights), graph.add("Mul", activation_scale, 4), output="y")
    elif kind == "group":
        pytest.skip("has no scales of groups")
    else:
        q, activation_scale = graph.quantise()
        q = graph.add("Cast", q, to=TensorProto.INT8)
        sums = graph.add("MatMulInteger", q, graph.constant(draw_trits().T, np.int8))
        scales = 0.03 if kind == "tensor" else np.linspace(0.01, 0.1, M, dtype=np.float32)
        scaled = graph.add("Mul", graph.add("Cast", sums, to=TensorProto.FLOAT), scales)
        graph.add("Div", scaled, activation_scale, output="y")
    expect(graph, tmp_path / "graph.onnx", f"recognised BitLinear {K}x{M}, scale {scale}")


@pytest.mark.parametrize("kind", ("tensor", "row", "group"))
@pytest.mark.parametrize("dtype", ("INT8", "INT4", "UINT4", "INT2", "UINT2"))
def test_dequantised_weights(dtype, kind, tmp_path):
    """QDQ: ternary codes, a scale per tensor, axis or block."""
    graph = Graph()
    zero = 1 if dtype[0] == "U" else 0
    scales = {"tensor": 0.03, "row": np.linspace(0.01, 0.1, M),
              "group": np.linspace(0.01, 0.1, K // 32 * M).reshape(-1, M)}[kind]
    codes = helper.make_tensor("w", getattr(TensorProto, dtype), (K, M), (draw_trits().T + zero).astype(int).ravel())
    zeros = helper.make_tensor("z", getattr(TensorProto, dtype), np.shape(scales), np.full(np.size(scales), zero))
    attributes = {"tensor": {}, "row": {"axis": 1}, "group": {"axis": 0, "block_size": 32}}[kind]
    weights = graph.add("DequantizeLinear", graph.constant(codes), graph.constant(scales), graph.constant(zeros),
                        **attributes)
    graph.add("MatMul", graph.fake_quantise(), weights, output="y")
    scale = {"tensor": "per tensor", "row": "per row", "group": "per group of 32"}[kind]
    floats = draw_trits().T * np.float32(scales).repeat(32 if kind == "group" else 1, 0)
    expect(graph, tmp_path / "graph.onnx", f"recognised BitLinear {K}x{M}, scale {scale}",
           opset=25 if dtype.endswith("INT2") else 21, reference=save_reference(floats, tmp_path / "floats.onnx"))


@pytest.mark.parametrize("zero_points", (False, True))
@pytest.mark.parametrize("bits", (2, 4, 8))
def test_matmul_nbits(bits, zero_points, tmp_path):
    zero = 1 if zero_points else 1 << bits - 1
    codes = (draw_trits() + zero).astype(np.uint8).reshape(M, K // 32, -1, 8 // bits)
    packed = sum(codes[..., i] << bits * i for i in range(8 // bits)).astype(np.uint8)
    scales = np.linspace(0.01, 0.1, M * K // 32, dtype=np.float32)
    graph = Graph()
    inputs = [graph.fake_quantise(), graph.constant(packed, np.uint8), scales]
    if zero_points:  # of two groups a row
        zeros = np.full((M, max(1, 2 * bits // 8)), {2: 0x05, 4: 0x11, 8: 1}[bits])
        inputs.append(graph.constant(zeros, np.uint8))
    graph.add("MatMulNBits", *inputs, domain="com.microsoft", N=M, K=K, bits=bits, block_size=32, output="y")
    floats = (draw_trits() * scales.reshape(M, -1).repeat(32, 1)).T
    expect(graph, tmp_path / "graph.onnx", f"recognised BitLinear {K}x{M}, scale per group of 32",
           reference=save_reference(floats, tmp_path / "floats.onnx"))


@pytest.mark.parametrize("dtype, zero", ((np.int8, 0), (np.int8, 9), (np.uint8, 128), (np.uint8, 100)))
def test_static_scale(dtype, zero, tmp_path):
    """QDQ of the activations: integers, and the rest as the graph says."""
    graph = Graph()
    quantiser = (graph.constant(0.02), graph.constant(zero, dtype))
    x = graph.add("DequantizeLinear", graph.add("QuantizeLinear", "x", *quantiser), *quantiser)
    graph.add("MatMul", x, make_weights("row")[0], output="y")
    expect(graph, tmp_path / "graph.onnx", f"recognised ternary product {K}x{M}, scale per row")


@pytest.mark.parametrize("padding", (0, 1))
@pytest.mark.parametrize("dtype, zero", ((np.int8, 0), (np.int8, 9), (np.uint8, 100)))
def test_static_scale_of_convolution(dtype, zero, padding, tmp_path):
    """Padding is 0, and so its code the zero point."""
    graph = Graph()
    quantiser = (graph.constant(0.02), graph.constant(zero, dtype))
    image = graph.add("Reshape", "x", graph.constant([-1, 1, 8, 8], np.int64))
    image = graph.add("DequantizeLinear", graph.add("QuantizeLinear", image, *quantiser), *quantiser)
    weights = draw_trits()[:, :9].reshape(M, 1, 3, 3) * np.float32(0.03)
    sums = graph.add("Conv", image, weights, pads=[padding] * 4)
    graph.add("ReduceMax", sums, graph.constant([2, 3], np.int64), keepdims=0, output="y")
    expect(graph, tmp_path / "graph.onnx", f"recognised ternary convolution 9x{M}, scale per tensor")


def test_another_bound(tmp_path):
    graph = Graph()
    graph.add("MatMul", graph.fake_quantise(bound=1e-6), make_weights("tensor")[0], output="y")
    expect(graph, tmp_path / "graph.onnx", f"recognised ternary product {K}x{M}, scale per tensor")


LATENT = "not recognised as BitLinear: activations are quantised, but weights are not ternary"


@pytest.mark.parametrize("product", ("MatMul", "Transpose", "Gemm", "MatMulInteger", "unfolded"))
def test_latent_weights(product, tmp_path):
    """One weight that is not ternary: as written."""
    weights = make_weights("tensor")[0]
    weights[3, 4] = 0.04
    graph = Graph()
    if product == "MatMul":
        graph.add("MatMul", graph.fake_quantise(), weights, output="y")
    elif product == "Transpose":
        graph.add("MatMul", graph.fake_quantise(), graph.add("Transpose", weights.T, perm=[1, 0]), output="y")
    elif product == "Gemm":
        graph.add("Gemm", graph.fake_quantise(), weights.T, draw(M), transB=1, output="y")
    elif product == "unfolded":  # to -2..2
        scaled = graph.add("Clip", graph.add("Round", graph.add("Mul", draw(K, M), 1.5)), -2, 2)
        graph.add("MatMul", graph.fake_quantise(), graph.add("Div", scaled, 1.5), output="y")
    else:
        codes = draw_trits().T
        codes[3, 4] = 2
        q, activation_scale = graph.quantise()
        sums = graph.add("MatMulInteger", graph.add("Cast", q, to=TensorProto.INT8), graph.constant(codes, np.int8))
        graph.add("Div", graph.add("Cast", sums, to=TensorProto.FLOAT), activation_scale, output="y")
    expect(graph, tmp_path / "graph.onnx", LATENT)


@pytest.mark.parametrize("dtype", ("INT8", "INT4", "UINT4", "INT2", "UINT2"))
def test_dequantised_latent_weights(dtype, tmp_path):
    """One code that is not ternary."""
    zero = 1 if dtype[0] == "U" else 0
    values = draw_trits().T
    values[3, 4] = 2 if zero else -2
    codes = helper.make_tensor("w", getattr(TensorProto, dtype), (K, M), (values + zero).astype(int).ravel())
    point = helper.make_tensor("z", getattr(TensorProto, dtype), (), [zero])
    graph = Graph()
    weights = graph.add("DequantizeLinear", graph.constant(codes), graph.constant(0.5), graph.constant(point))
    graph.add("MatMul", graph.fake_quantise(), weights, output="y")
    expect(graph, tmp_path / "graph.onnx", LATENT, opset=25 if dtype.endswith("INT2") else 21,
           reference=save_reference(values * np.float32(0.5), tmp_path / "floats.onnx"))


@pytest.mark.parametrize("bits", (2, 4, 8))
def test_latent_matmul_nbits(bits, tmp_path):
    """One code that is not ternary."""
    zero = 1 << bits - 1
    values = draw_trits()
    values[3, 4] = -2
    codes = (values + zero).astype(np.uint8).reshape(M, K // 32, -1, 8 // bits)
    packed = sum(codes[..., i] << bits * i for i in range(8 // bits)).astype(np.uint8)
    graph = Graph()
    graph.add("MatMulNBits", graph.fake_quantise(), graph.constant(packed, np.uint8), np.full(M * K // 32, 0.5),
              domain="com.microsoft", N=M, K=K, bits=bits, block_size=32, output="y")
    expect(graph, tmp_path / "graph.onnx", LATENT,
           reference=save_reference(values.T * np.float32(0.5), tmp_path / "floats.onnx"))


@pytest.mark.parametrize("kind", ("code 3", "estimator", "absmax"))
def test_mutated_module(kind, tmp_path):
    """Packed weights with a code that stands for none; an estimator that leaves some of the rounding; 126 steps."""

    class Mutated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            packed = bitnet.pack_weights(torch.from_numpy(draw_trits()))
            if kind == "code 3":
                packed[0, 0] |= 3
            self.register_buffer("packed", packed)

        def forward(self, x):
            scale = (126.0 if kind == "absmax" else 127.0) / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
            q = (x * scale).round().clamp(-128, 127) / scale
            q = x + (q - x) * 0.5 if kind == "estimator" else x + (q - x)
            return torch.nn.functional.linear(q, bitnet.unpack_weights(self.packed, torch.float32))

    path = tmp_path / "layer.onnx"
    x = draw(TOKENS, K)
    torch.onnx.export(Mutated().eval(), (torch.from_numpy(x),), path, dynamo=False, opset_version=18)
    [remark] = recognised(path)
    assert not remark.startswith("recognised BitLinear")
    assert_same_result(path, x)


def test_float_activations(tmp_path):
    graph = Graph()
    graph.add("MatMul", "x", make_weights("tensor")[0], output="y")
    expect(graph, tmp_path / "graph.onnx",
           "not recognised as BitLinear: weights are ternary, but activations are not quantised")


def test_dynamic_quantize_linear(tmp_path):
    """Its scale is one of the tensor, and its zero is where it falls: as written."""
    graph = Graph()
    graph.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    sums = graph.add("MatMulInteger", "q", graph.constant(draw_trits().T, np.int8), "z")
    scaled = graph.add("Mul", graph.add("Cast", sums, to=TensorProto.FLOAT), "s")
    graph.add("Mul", scaled, 0.03, output="y")
    expect(graph, tmp_path / "graph.onnx",
           "not recognised as BitLinear: weights are ternary, but activations have a zero point")


CONVOLUTIONS = {
    "plain": dict(kernel_size=3),
    "padded": dict(kernel_size=(3, 5), padding=(1, 2), stride=2),
    "dilated": dict(kernel_size=3, padding=2, dilation=2, bias=False),
    "1x1": dict(kernel_size=1),
    "gray": dict(in_channels=1, kernel_size=3, padding=1),
    "rows": dict(in_channels=16, out_channels=96, kernel_size=3, padding=1),
}


def test_latent_convolution(tmp_path):
    """One weight that is not ternary."""
    weights = draw_trits()[:, :9].reshape(M, 1, 3, 3)
    weights[1, 0, 1, 1] = 2
    graph = Graph()
    image = graph.add("Reshape", graph.fake_quantise(), graph.constant([-1, 1, 8, 8], np.int64))
    graph.add("ReduceMax", graph.add("Conv", image, weights), graph.constant([2, 3], np.int64), keepdims=0, output="y")
    graph.save(tmp_path / "graph.onnx")
    assert not any(remark.startswith("recognised") for remark in recognised(tmp_path / "graph.onnx"))
    assert_same_result(tmp_path / "graph.onnx", draw(TOKENS, K))


class BitConv2d(torch.nn.Conv2d):
    """One activation scale for each image."""

    def forward(self, x):
        scale = 127.0 / x.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-5)
        x = x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()
        w = self.weight
        scale = 1.0 / w.abs().mean().clamp(min=1e-5)
        w = w + ((w * scale).round().clamp(-1, 1) / scale - w).detach()
        return self._conv_forward(x, w, self.bias)


@pytest.mark.parametrize("exporter", ("legacy", "dynamo"))
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name, exporter, tmp_path):
    torch.manual_seed(0)
    layer = BitConv2d(**{"in_channels": 6, "out_channels": 20, **CONVOLUTIONS[name]}).eval()
    x = draw(2, layer.in_channels, 9, 11)
    path = tmp_path / "layer.onnx"
    options = {} if exporter == "legacy" else {"external_data": False, "verbose": False}
    torch.onnx.export(layer, (torch.from_numpy(x),), path, dynamo=exporter == "dynamo", opset_version=18, **options)
    columns = layer.weight[0].numel()
    assert recognised(path) == [f"recognised ternary convolution {columns}x{layer.out_channels}, scale per tensor"]
    assert_same_result(path, x)
    session = ort.InferenceSession(path)
    levels = run_at_levels(path, {session.get_inputs()[0].name: x}, session.get_outputs()[0].name, tmp_path)
    assert set(levels.values()) == {np.load(path.with_suffix(".y.npy")).tobytes()}
