# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`--emit=lib`: a C program that sees nothing but the library and its header."""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/models/austen"
TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
TOKENS = [str(i * 37 % 2000) for i in range(70)]


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module", params=["bf16", "screened"])
def library(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("library")
    run(TERCET, "compile", MODEL, "-o", directory / "libausten.so", "--emit=lib", f"--head={request.param}")
    assert sorted(path.name for path in directory.iterdir()) == ["libausten.so", "tercet.h"]
    return directory


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    directory = tmp_path_factory.mktemp("executable")
    run(TERCET, "compile", MODEL, "-o", directory / "austen")
    run(directory / "austen", "--tokens", ",".join(TOKENS), "--logits", directory / "logits.npy")
    return np.load(directory / "logits.npy")


def test_c_program(tmp_path, library, expected):
    program = tmp_path / "print-logits"
    compiler = shutil.which("clang-22") or shutil.which("cc")
    run(compiler, "-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{library}",
        ROOT / "tests/e2e/print_logits.c", f"-L{library}", "-lausten", f"-Wl,-rpath,{library}", "-o", program)
    got = np.frombuffer(run(program, *TOKENS, cwd="/", env={}), np.float32).reshape(expected.shape)
    assert (got.view(np.uint32) == expected.view(np.uint32)).all()


def test_header_is_valid_cplusplus(library):
    compiler = shutil.which("clang++-22") or shutil.which("c++")
    run(compiler, "-std=c++20", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-x", "c++",
        library / "tercet.h")
