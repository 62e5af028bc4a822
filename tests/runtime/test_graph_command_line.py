# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A graph's command line, on the toy graph of FakeGraph.cpp."""

import json
import os
import pathlib
import subprocess

import numpy
import pytest

GRAPH = pathlib.Path(os.environ["TERCET_FAKE_MODEL_DIR"]) / "fake-graph"
INPUTS = "x f32[batch, 3], y f32[batch], fail bool[]"


def run(*args, ok=True, **kwargs):
    done = subprocess.run([GRAPH, *map(str, args)], text=True, timeout=60, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **kwargs)
    assert done.returncode == (0 if ok else 1), done
    return done.stdout


def error(*args):
    done = subprocess.run([GRAPH, *map(str, args)], text=True, timeout=60, capture_output=True)
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def files(tmp_path):
    """Saves arrays; returns the arguments that name them."""
    def save(**arrays):
        values = {"x": numpy.arange(6, dtype="f4").reshape(2, 3), "y": numpy.array([10, 20], "f4"),
                  "fail": numpy.array(False)} | arrays
        arguments = []
        for name, value in values.items():
            if value is not None:
                numpy.save(tmp_path / f"{name}.npy", value)
                arguments += ["--input", f"{name}={tmp_path / name}.npy"]
        return arguments
    return save


def test_run(files, tmp_path):
    assert run(*files(), "--output", f"sum={tmp_path}/sum.npy", f"--output=rows={tmp_path}/rows.npy") == ""
    total = numpy.load(tmp_path / "sum.npy")
    assert total.dtype == numpy.float32
    assert total.tolist() == [[10, 11, 12], [23, 24, 25]]
    rows = numpy.load(tmp_path / "rows.npy")
    assert rows.shape == () and rows.dtype == numpy.int64 and rows == 2


def test_summary(files):
    assert run(*files()) == "sum f32[2, 3]\nrows i64[]\n"
    assert run(*files(x=numpy.zeros((0, 3), "f4"), y=numpy.zeros(0, "f4"))) == "sum f32[0, 3]\nrows i64[]\n"


def test_threads(files):
    assert run(*files(), "--threads", 1) == run(*files(), "--threads", 7)
    assert "--threads 0: expected a whole number" in error(*files(), "--threads", 0)


def test_stdin(files, tmp_path):
    arguments = files()
    with open(tmp_path / "x.npy") as x:
        assert run("--input", "x=-", *arguments[2:], stdin=x) == "sum f32[2, 3]\nrows i64[]\n"


def test_bench(files):
    report = json.loads(run(*files(), "--bench", "--json", "--threads", 2, "--check"))
    assert report["threads"] == 2 and report["runs"] >= 5
    assert 0 < report["least_s"] <= report["median_s"]
    assert "median" in run(*files(), "--bench")


def test_info_and_help():
    assert json.loads(run("--info"))["model"] == "fake"
    text = run("--help", "--bench")
    assert "--input NAME=FILE" in text and all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("arguments, message", [
    (["--frob"], "unknown argument '--frob'"),
    (["--input"], "expected NAME=FILE after it"),
    (["--input", "z=a.npy"], f"expected NAME=FILE with a NAME of this graph's inputs: {INPUTS}"),
    (["--input", "x"], INPUTS),
    (["--input", "x="], "expected a file name"),
    (["--input", "x=a", "--input", "x=b"], "this input has a file already"),
    (["--output", "z=a.npy"], "outputs: sum f32[batch, 3], rows i64[]"),
    ([], f"input x is missing: give --input NAME=FILE for each of {INPUTS}"),
    (["--input", "x=/nonexistent", "--input", "y=y", "--input", "fail=f"], "cannot read /nonexistent: No such file"),
    (["--json"], "--json: only --bench"),
    (["--bench", "--output", "sum=a"], "not available with --bench"),
])
def test_wrong_arguments(arguments, message):
    assert message in error(*arguments)


@pytest.mark.parametrize("arrays, message", [
    ({"x": numpy.zeros((2, 3))}, "holds elements '<f8', but input x is f32[batch, 3], '<f4' in NumPy"),
    ({"x": numpy.zeros((2, 3), ">f4")}, "big-endian"),
    ({"x": numpy.zeros((2, 3), "f4", order="F")}, "Fortran order: save numpy.ascontiguousarray(x)"),
    ({"x": numpy.zeros(3, "f4")}, "has rank 1, but input x is f32[batch, 3]"),
    ({"x": numpy.zeros((2, 4), "f4")}, "input x: expected f32[batch, 3], not f32[2, 4]"),
    ({"y": numpy.zeros(3, "f4")}, "input y: batch is 3 here and 2 in input x"),
    ({"y": numpy.array(["a", "b"])}, "elements of type '<U1' are not supported"),
    ({"fail": numpy.array(True)}, "node 'check': told to fail"),
    ({"y": None}, "input y is missing"),
])
def test_wrong_arrays(files, arrays, message):
    assert message in error(*files(**arrays))


@pytest.mark.parametrize("change, message", [
    (lambda data: b"", "ends too early"),
    (lambda data: data[:-1], "ends too early"),
    (lambda data: data + b"x", "longer than its shape says"),
    (lambda data: b"PK" + data[2:], "is no .npy file"),
    (lambda data: data[:8] + b"\xff\xff" + data[10:], "ends too early"),
    (lambda data: data.replace(b"(2, 3)", b"(2, x)"), "records or damaged"),
    (lambda data: data.replace(b"(2, 3)", b"(2,-3)"), "records or damaged"),
    (lambda data: data.replace(b"(2, 3), }  ", b"(4294967296, 4294967296, 1), }"), "shape out of range"),
])
def test_damaged_file(files, tmp_path, change, message):
    arguments = files()
    path = tmp_path / "x.npy"
    path.write_bytes(change(path.read_bytes()))
    assert message in error(*arguments)


def test_unwritable_output(files):
    assert "No space left" in error(*files(), "--output", "sum=/dev/full")
    assert "cannot write" in error(*files(), "--output", "sum=/nonexistent/sum.npy")
