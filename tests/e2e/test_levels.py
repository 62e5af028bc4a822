# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Several ISA levels in one executable: each has the same bits, the newest one that
the CPU has runs, and TERCET_TARGET forces another."""

import json
import os
import subprocess
from pathlib import Path

import pytest

BIN = Path(os.environ["TERCET_BIN_DIR"])
MODEL = Path(__file__).resolve().parents[1] / "models/austen"
LEVELS = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4+avx512vnni+avx512vbmi"]


def run(program, *arguments, level=None):
    environment = {**os.environ, **({"TERCET_TARGET": level} if level else {})}
    return subprocess.run([program, *arguments], text=True, capture_output=True, env=environment)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("levels") / "austen"
    subprocess.run([BIN / "tercet", "compile", MODEL, "-o", path, "--target=" + ",".join(reversed(LEVELS))], check=True)
    return path


def active(program, level=None):
    done = run(program, "--info", level=level)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["active_target"]


def test_newest_level_runs(program):
    runnable = [level for level in LEVELS if run(program, "--info", level=level).returncode == 0]
    assert active(program) == runnable[-1]
    info = json.loads(run(program, "--info").stdout)
    assert info["target"] == ",".join(LEVELS) and len(info["target"]) > 63
    assert [level["target"] for level in info["levels"]] == LEVELS
    assert "avx512vbmi" in info["levels"][-1]["cpu_features"] and not info["levels"][0]["cpu_features"]


def test_bench_names_the_level_that_runs(program):
    done = run(program, "--bench", "--prompt", "2", "--gen", "1", "--json", level=LEVELS[1])
    assert json.loads(done.stdout)["target"] == LEVELS[1]


@pytest.mark.parametrize("level", LEVELS)
def test_same_bits(program, tmp_path, level):
    done = run(program, "--tokens", "100,200,300,400,500", "--logits", tmp_path / "forced.npy", level=level)
    if "this CPU has" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert active(program, level) == level
    assert run(program, "--tokens", "100,200,300,400,500", "--logits", tmp_path / "own.npy").returncode == 0
    assert (tmp_path / "forced.npy").read_bytes() == (tmp_path / "own.npy").read_bytes()


def test_weights_are_there_once(program, tmp_path):
    subprocess.run([BIN / "tercet", "compile", MODEL, "-o", tmp_path / "one", "--target=x86-64-v3", "--packing=i2"],
                   check=True)
    weights = [json.loads(run(path, "--info").stdout)["weights_bytes"] for path in (program, tmp_path / "one")]
    assert weights[0] == weights[1]
    assert program.stat().st_size < (tmp_path / "one").stat().st_size + weights[0] / 2


@pytest.mark.parametrize("head", ["i8", "q6", "q4", "screened"])
def test_head_is_there_once(tmp_path, head):
    """Logits of each level and size of the weights are those of a program for one level alone."""
    programs = [tmp_path / "several", tmp_path / "one"]
    for path, target in zip(programs, [",".join(LEVELS), LEVELS[1]]):
        subprocess.run([BIN / "tercet", "compile", MODEL, "-o", path, f"--target={target}", "--packing=i2",
                        f"--head={head}"], check=True)
    sizes = [json.loads(run(path, "--info").stdout)["weights_bytes"] for path in programs]
    assert abs(sizes[0] - sizes[1]) < 64 * 1024
    forced = dict.fromkeys(LEVELS, programs[0]) | {None: programs[1]}
    results = set()
    for level, path in forced.items():
        done = run(path, "--tokens", "100,200,300,400,500", "--logits", tmp_path / "logits.npy", level=level)
        if "this CPU has" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        results.add((tmp_path / "logits.npy").read_bytes())
    assert len(results) == 1


def test_unknown_level(program):
    done = run(program, "--info", level="x86-64-v9")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == f"error: TERCET_TARGET=x86-64-v9: this binary has {', '.join(LEVELS)}\n"


@pytest.mark.parametrize("machine, level", [("cortex-a72", "aarch64"), ("neoverse-n1", "aarch64+dotprod"),
                                            ("max,sve=off", "aarch64+dotprod+i8mm")])
def test_levels_of_another_machine(tmp_path, machine, level):
    subprocess.run([BIN / "tercet", "compile", MODEL, "-o", tmp_path / "austen",
                    "--target=aarch64,aarch64+dotprod,aarch64+dotprod+i8mm"], check=True)
    try:
        done = subprocess.run(["qemu-aarch64", "-cpu", machine, tmp_path / "austen", "--info"],
                              text=True, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("qemu-user is not installed")
    assert json.loads(done.stdout)["active_target"] == level
    lacking = subprocess.run(["qemu-aarch64", "-cpu", "cortex-a72", tmp_path / "austen", "--info"], text=True,
                             capture_output=True, env={**os.environ, "TERCET_TARGET": "aarch64+dotprod"})
    assert lacking.returncode == 1
    assert lacking.stderr == "error: TERCET_TARGET=aarch64+dotprod needs dotprod; this CPU has none\n"
