# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`tercet tune`, and what `tercet compile` makes of it. Nothing here depends on
which layout wins."""

import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/frontends"))
import checkpoint

TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
SHAPES = ["--shapes", "160x128*2,64x64"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A database in which this CPU is measured, so that tests need not."""
    path = tmp_path_factory.mktemp("tune") / "measured.db"
    tune("--shapes", "16x16", "--budget", "0.1s", "--db", path)
    return path


@pytest.fixture
def database(home, measured):
    path = home / "tuning.db"
    path.write_bytes(measured.read_bytes())
    return path


def tercet(*arguments):
    return subprocess.run([TERCET, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def tune(*arguments):
    done = tercet("tune", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tune_json(*arguments):
    return json.loads(tune(*arguments, "--json"))


def tune_all(*arguments):
    """On a slow machine one budget may not suffice."""
    for _ in range(20):
        found = tune_json(*arguments)
        if not found["missing"]:
            return found
    pytest.fail("it never ends")


def refusal(*arguments):
    done = tercet("tune", *arguments)
    assert done.returncode == 1 and not done.stdout, done
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("tercet: error: "), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.write(tmp_path_factory.mktemp("models") / "tiny", checkpoint.tensors(), checkpoint.config())


def explain(model, *arguments):
    """The reason for the layouts, the layouts, and what else is on stderr."""
    done = tercet("compile", model, "--explain", "--compile-to=select-layout", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    reasons = [line for line in lines if line.startswith("remark: weights: ")]
    layouts = [line for line in lines if "#ternary.layout" in line]
    assert len(reasons) == 1 and layouts
    return reasons[0], layouts, [line for line in lines if not line.startswith("remark: ")]


# ---- tune -----------------------------------------------------------------------

def test_shapes(home):
    found = tune_json(*SHAPES, "--budget", "20s")
    assert (home / "cache/tercet/tuning.db").exists()
    assert found["missing"] == 0 and found["cpu"]["levels"][-1]["read_by_all"] > 0
    first, second = found["shapes"]
    assert (first["rows"], first["cols"], first["count"]) == (160, 128, 2)
    assert second["decode_s"] > 0 and second["prefill_s"] > 0 and second["candidates"] > 2
    assert second["tuned_now"] and second["layout"].startswith("#ternary.layout<")


def test_budget_is_kept(database):
    """What was begun is finished, and nothing else begun."""
    start = time.monotonic()
    tune("--shapes", "512x512,1024x512", "--budget", "3", "--db", database)
    assert time.monotonic() - start < 20


def test_what_was_tuned_is_not_tuned_again(database):
    first = tune_all(*SHAPES, "--budget", "1s", "--db", database)
    again = tune_json(*SHAPES, "--budget", "60s", "--db", database)
    assert not any(shape["tuned_now"] for shape in again["shapes"])
    assert [s["layout"] for s in again["shapes"]] == [s["layout"] for s in first["shapes"]]
    assert [s["decode_s"] for s in again["shapes"]] == [s["decode_s"] for s in first["shapes"]]


def test_resumes(database):
    done = tercet("tune", "--shapes", "64x64,80x64,96x64", "--budget", "0.1s", "--db", database)
    assert done.returncode == 0 and "of 3 matmuls; the next run goes on with them" in done.stderr
    found = tune_json("--shapes", "64x64,80x64,96x64", "--budget", "20s", "--db", database)
    assert found["missing"] == 0
    assert [shape["tuned_now"] for shape in found["shapes"]] == [False, True, True]


def test_threads_are_part_of_the_key(database):
    for threads in ("1", "2"):
        found = tune_json("--shapes", "64x64", "--budget", "0.1s", "--threads", threads, "--db", database)
        assert found["shapes"][0]["tuned_now"]


def test_model(model, database):
    tune_all(model, "--budget", "1s", "--db", database)
    assert tune(model, "--db", database).count("tuned before") > 1


def test_export_and_import(database, home):
    tune_all(*SHAPES, "--budget", "0.5s", "--db", database)
    assert tune("export", home / "cpu.json", "--db", database) == ""
    other = home / "other.db"
    assert tune("import", home / "cpu.json", "--db", other).endswith("results\n")
    assert not any(s["tuned_now"] for s in tune_json(*SHAPES, "--db", other)["shapes"])
    tune("export", home / "again.json", "--db", other)
    assert (home / "again.json").read_text() == (home / "cpu.json").read_text()


@pytest.mark.parametrize("arguments, message", [
    ([], "give a MODEL or --shapes"),
    (["MODEL", "--shapes", "64x64"], "give a MODEL or --shapes"),
    (["/no/such/model"], "no such"),
    (["--shapes", "64"], "'64' is not MxK"),
    (["--shapes", "64x0"], "'64x0' is not MxK"),
    (["--shapes", "64x64*"], "'64x64*' is not MxK"),
    (["--shapes", "64x64,,"], "'' is not MxK"),
    (["--shapes", "64x140000"], "K up to 131072"),
    (["--shapes", "64x64", "--budget", "0s"], "--budget=0s"),
    (["--shapes", "64x64", "--budget", "soon"], "--budget=soon"),
    (["--shapes", "64x64", "--threads", "0"], "--threads"),
    (["--shapes", "64x64", "--target", "riscv64"], "does not run code"),
    (["publish", "file"], "'publish'"),
    (["export", "out.json", "--db", "/no/such/dir/x.db"], "unable to open"),
    (["import", "/no/such.json"], "/no/such.json"),
])
def test_errors(database, arguments, message):
    if "--db" not in arguments:
        arguments = [*arguments, "--db", database]
    assert message in refusal(*arguments)


def test_import_of_something_else(database, home):
    file = home / "bad.json"
    file.write_text('{"version": 1, "cpus": [], "results": [{"cpu": 3}]}')
    before = database.read_bytes()
    assert str(file) in refusal("import", file, "--db", database)
    assert database.read_bytes() == before


# ---- Damage ---------------------------------------------------------------------

@pytest.fixture(params=["text", "foreign", "damaged"])
def unusable(request, database):
    if request.param == "text":
        database.write_text("not a database\n" * 100)
    elif request.param == "foreign":
        database.unlink()
        with sqlite3.connect(database) as other:
            other.execute("CREATE TABLE notes (text)")
    else:
        data = bytearray(database.read_bytes())
        data[4096:] = bytes(len(data) - 4096)
        database.write_bytes(data)
    return database


def test_unusable_database(unusable, model):
    before = unusable.read_bytes()
    assert str(unusable) in refusal("--shapes", "64x64", "--db", unusable)
    reason, _, others = explain(model, "--db", unusable)
    assert "predicted" in reason
    assert len(others) == 1 and others[0].startswith(f"tercet: warning: {unusable}")
    assert unusable.read_bytes() == before


def test_kills(database):
    """What was stored before a kill is there after it."""
    generator = random.Random(1)
    start = time.monotonic()
    tune("--shapes", "16x32", "--budget", "0.1", "--db", database)
    longest = 2 * (time.monotonic() - start)
    shapes = [f"{16 * i}x64" for i in range(1, 200)]
    stored = 0
    for _ in range(20):
        process = subprocess.Popen([TERCET, "tune", "--shapes", ",".join(shapes), "--budget", "40s", "--db",
                                    database], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.05, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with sqlite3.connect(database) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            count, = connection.execute("SELECT count(*) FROM result").fetchone()
        assert count % 2 == 0 and count >= stored
        stored = count
    assert stored > 2


def test_two_at_once(database):
    shapes = [["--shapes", ",".join(f"{16 * i + offset}x64" for i in range(1, 6))] for offset in (0, 96)]
    processes = [subprocess.Popen([TERCET, "tune", *part, "--budget", "3s", "--db", database],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) for part in shapes]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for part in shapes:
        tune_all(*part, "--budget", "3s", "--db", database)
        assert not any(shape["tuned_now"] for shape in tune_json(*part, "--db", database)["shapes"])


# ---- compile ----------------------------------------------------------------------

def test_compile_predicts(home, model):
    reason, layouts, others = explain(model)
    assert reason.endswith("; predicted, nobody tuned this CPU") and not others
    for layout in layouts:
        assert re.search(r"one token [\d.]+ us, bound by (reading|instructions); 128 tokens [\d.]+ [mu]s, by instructions;"
                         r" one token with \w\w [\d.]+ us.* \(predicted\)", layout), layout
    assert len(layouts) == len({layout.split(":")[1] for layout in layouts})
    assert not (home / "cache").exists()


def test_compile_takes_what_was_measured(database, model):
    tune_all(model, "--budget", "1s", "--db", database)
    reason, layouts, others = explain(model, "--db", database)
    assert "; measured on this CPU on 20" in reason and not others
    stored = {s["layout"] for s in tune_json(model, "--db", database)["shapes"]}
    assert all(any(layout in line for layout in stored) for line in layouts)
    assert all(re.search(r"one token [\d.]+ us, 128 tokens [\d.]+ [mu]s \(measured\)", line) for line in layouts)
    assert "predicted" in explain(model, "--db", database, "--tune=off")[0]
    assert "--packing" not in reason
    done = tercet("compile", model, "--db", database, "--packing=i2", "--explain", "--compile-to=select-layout")
    assert "remark: --packing=i2" in done.stderr


def test_quick_tunes_once(home, model):
    database = home / "quick.db"
    for _ in range(5):  # on a slow machine 10 s may not suffice
        reason = explain(model, "--tune=quick", "--db", database)[0]
        assert "measured on this CPU" in reason
        if "predicted" not in reason:
            break
    before = database.read_bytes()
    start = time.monotonic()
    assert "; measured on this CPU" in explain(model, "--tune=quick", "--db", database)[0]
    assert time.monotonic() - start < 3
    assert database.read_bytes() == before


def test_another_target_is_not_tuned(database, model):
    tune_all(model, "--budget", "1s", "--db", database)
    assert "predicted" in explain(model, "--db", database, "--target=x86-64-v2")[0]
    assert "predicted" in explain(model, "--db", database, "--target=aarch64")[0]


def test_same_answers(database, model, home):
    tune_all(model, "--budget", "1s", "--db", database)
    for name, options in (("tuned", []), ("predicted", ["--tune=off"])):
        assert tercet("compile", model, "-o", home / name, "--db", database, *options).returncode == 0
    answers = [subprocess.run([home / name, "--tokens", "1,2,3", "-n", "5"], capture_output=True, text=True,
                              check=True).stdout for name in ("tuned", "predicted")]
    assert answers[0] == answers[1]
