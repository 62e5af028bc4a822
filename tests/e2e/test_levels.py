# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Several ISA levels in one executable: each has the same bits, the newest one that
the CPU has runs, and TERCET_TARGET forces another. Those of Arm run under an emulator."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

BIN = Path(os.environ["TERCET_BIN_DIR"])
MODEL = Path(__file__).resolve().parents[1] / "models/austen"
LEVELS = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4+avx512vnni+avx512vbmi"]


def run(program, *arguments, level=None):
    environment = {**os.environ, **({"TERCET_TARGET": level} if level else {})}
    return subprocess.run([program, *arguments], text=True, capture_output=True, env=environment)


def compile_model(path, levels, *options):
    subprocess.run([BIN / "tercet", "compile", MODEL, "-o", path, "--target=" + ",".join(levels), *options], check=True)
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_model(tmp_path_factory.mktemp("levels") / "austen", reversed(LEVELS))


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
    one = compile_model(tmp_path / "one", ["x86-64-v3"], "--packing=i2")
    weights = [json.loads(run(path, "--info").stdout)["weights_bytes"] for path in (program, one)]
    assert weights[0] == weights[1]
    assert program.stat().st_size < one.stat().st_size + weights[0] / 2


@pytest.mark.parametrize("head", ["i8", "q6", "q4", "screened"])
def test_head_is_there_once(tmp_path, head):
    """Logits of each level and size of the weights are those of a program for one level alone."""
    programs = [tmp_path / "several", tmp_path / "one"]
    for path, levels in zip(programs, [LEVELS, LEVELS[1:2]]):
        compile_model(path, levels, "--packing=i2", f"--head={head}")
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


ARM_LEVELS = ["aarch64", "aarch64+dotprod", "aarch64+dotprod+i8mm"]
# CPUs of qemu's, and the newest level that each can run.
ARM_CPUS = dict(zip(["cortex-a72", "neoverse-n1", "max,sve=off"], ARM_LEVELS))


@pytest.fixture(scope="module")
def arm_program(tmp_path_factory):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed")
    targets = [level.replace("aarch64", "aarch64-linux-gnu") for level in reversed(ARM_LEVELS)]
    return compile_model(tmp_path_factory.mktemp("arm") / "austen", targets)


def run_arm(cpu, program, *arguments, level=None):
    return run("qemu-aarch64", "-cpu", cpu, program, *arguments, level=level)


@pytest.mark.parametrize("cpu, newest", ARM_CPUS.items())
def test_arm_levels_run_up_to_the_newest(arm_program, cpu, newest):
    runnable = ARM_LEVELS[:ARM_LEVELS.index(newest) + 1]
    for level in [None, *runnable]:
        done = run_arm(cpu, arm_program, "--info", level=level)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["active_target"] == (level or newest)
    features = newest.split("+")[1:]
    for level in ARM_LEVELS[len(runnable):]:
        lacking = " ".join(level.split("+")[1 + len(features):])
        done = run_arm(cpu, arm_program, "--info", level=level)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr == (f"error: TERCET_TARGET={level} needs {lacking}; "
                               f"this CPU has {' '.join(features) or 'none'}\n")


def test_arm_levels_have_the_bits_of_this_machine(arm_program, program, tmp_path):
    def results(name, run_program):
        logits = tmp_path / name
        done = run_program("--tokens", "100,200,300,400,500", "--logits", logits)
        assert done.returncode == 0, done.stderr
        tokens = run_program("--tokens", "100,200,300,400,500", "-n", "8")
        assert tokens.returncode == 0, tokens.stderr
        return logits.read_bytes(), tokens.stdout

    expected = results("here.npy", functools.partial(run, program))
    for cpu, newest in ARM_CPUS.items():
        assert results("chosen.npy", functools.partial(run_arm, cpu, arm_program)) == expected, newest
        assert results("forced.npy", functools.partial(run_arm, "max,sve=off", arm_program, level=newest)) == expected


def test_arm_weights_are_there_once(arm_program, tmp_path):
    one = compile_model(tmp_path / "one", ARM_LEVELS[:1], "--packing=i2")
    weights = [json.loads(run_arm("cortex-a72", path, "--info").stdout)["weights_bytes"] for path in (arm_program, one)]
    assert weights[0] == weights[1]
    # Two more levels, which would have brought as many weights each.
    assert arm_program.stat().st_size < one.stat().st_size + weights[0]
