# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The `tercet` command: what it makes, and the one line when it cannot."""

import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/frontends"))
import checkpoint

TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
TOKENS = ["--tokens", "1,2,3", "-n", "5"]


def tercet(*arguments, **options):
    return subprocess.run([TERCET, *map(str, arguments)], capture_output=True, text=True, **options)


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.write(tmp_path_factory.mktemp("models") / "tiny", checkpoint.tensors(), checkpoint.config())


@pytest.fixture(scope="module")
def executable(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "tiny"
    done = tercet("compile", model, "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


# ---- What is made -----------------------------------------------------------

def test_executable_stands_alone(executable, tmp_path):
    expected = run(executable, *TOKENS)
    moved = shutil.copy(executable, tmp_path / "moved")
    assert run(moved, *TOKENS, cwd="/", env={}) == expected
    assert [path.name for path in executable.parent.iterdir()] == ["tiny"]


def test_stripped(executable, tmp_path):
    run("strip", executable, "-o", tmp_path / "stripped")
    assert run(tmp_path / "stripped", *TOKENS) == run(executable, *TOKENS)


def test_same_input_same_bytes(executable, model, tmp_path):
    assert tercet("compile", model, "-o", tmp_path / "again", "--threads=1").returncode == 0
    assert (tmp_path / "again").read_bytes() == executable.read_bytes()


def test_info(executable):
    info = json.loads(run(executable, "--info"))
    assert info["model"] == "tiny" and info["vocab_size"] == checkpoint.VOCAB


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2", "x86-64"])
def test_same_tokens_on_every_level(executable, model, tmp_path, target):
    done = tercet("compile", model, "-o", tmp_path / "out", "--target", target)
    assert done.returncode == 0, done.stderr
    assert run(tmp_path / "out", *TOKENS) == run(executable, *TOKENS)


def test_library_and_header(model, tmp_path):
    done = tercet("compile", model, "-o", tmp_path / "libtiny.so", "--emit=lib")
    assert done.returncode == 0, done.stderr
    header = ROOT / "runtime/include/tercet/tercet.h"
    assert (tmp_path / "tercet.h").read_text() == header.read_text()
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", tmp_path / "libtiny.so").splitlines()}
    assert "tercet_open" in exported and "tercet_step" not in exported
    assert all(name.startswith("tercet_") for name in exported)
    library = ctypes.CDLL(str(tmp_path / "libtiny.so"))
    handle = ctypes.c_void_p()
    assert library.tercet_open(ctypes.byref(handle)) == 0


@pytest.mark.parametrize("kind, start", [("asm", "\t."), ("llvm", "; ModuleID"), ("mlir", "module")])
def test_text_goes_to_stdout(model, kind, start):
    done = tercet("compile", model, f"--emit={kind}")
    assert done.returncode == 0 and done.stdout.startswith(start)


def test_object_for_another_machine(model, tmp_path):
    done = tercet("compile", model, "--emit=obj", "--target=aarch64+dotprod", "-o", tmp_path / "a.o")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.o").read_bytes()[18] == 183  # EM_AARCH64


def test_every_phase(model):
    listed = tercet("compile", model, "--compile-to=?").stderr
    phases = listed.split("the phases are ")[1].split(", did you")[0].strip().split(", ")
    assert phases[0] == "import" and phases[-1] == "to-llvm"
    for phase in phases:
        done = tercet("compile", model, f"--compile-to={phase}")
        assert done.returncode == 0 and "module" in done.stdout, f"{phase}: {done.stderr}"


def test_run_compiles_once(model, executable, tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    outputs = [tercet("run", model, *TOKENS, env=env).stdout for _ in range(2)]
    assert outputs == [run(executable, *TOKENS)] * 2
    assert len(list((tmp_path / "tercet").iterdir())) == 1


def verify(model, out, *arguments):
    done = tercet("verify", "--json", model, out, *arguments)
    return done, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_verify(model, executable):
    done, checks = verify(model, executable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks["kernels"]["detail"] == "32 kernels, 45 identical results of 32 tokens"


def test_verify_more_than_a_step(tmp_path):
    """Another architecture, no tied head, and tokens for two steps."""
    model = checkpoint.write(tmp_path / "llama", checkpoint.tensors(norms=(), head=True),
                             checkpoint.llama_config(max_position_embeddings=256))
    assert tercet("compile", model, "-o", tmp_path / "out").returncode == 0
    done, checks = verify(model, tmp_path / "out", "--tokens", ",".join(str(i % 40) for i in range(150)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks["kernels"]["detail"].endswith("identical results of 128 tokens")


def test_context_beyond_the_training(model, tmp_path):
    """Said once; the positions beyond are computed as any other."""
    done = tercet("compile", model, "-o", tmp_path / "out", "--context=150")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == ("tercet: warning: a context of 150 exceeds the model's own of 64: it was "
                           "not trained for positions beyond it\n")
    tokens = ",".join(str(i % 40) for i in range(100))
    done, checks = verify(model, tmp_path / "out", "--context=150", "--tokens", tokens)
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks["kernels"]["detail"].endswith("identical results of 100 tokens")


def find_weights(artifact):
    """Where the weights section of tercet/artifact.h starts in the file."""
    blob = next(at for at in range(0, len(artifact), 2 << 20) if artifact[at:at + 8] == b"TERCETB\0")
    for at in range(blob + 208, blob + 208 + 5 * 32, 32):
        kind, _, offset, _, _ = struct.unpack_from("<IIQQQ", artifact, at)
        if kind == 1:
            return blob + offset


@pytest.mark.parametrize("number, layer", [
    (0, "model.layers.0.self_attn.q_proj + model.layers.0.self_attn.k_proj + model.layers.0.self_attn.v_proj"),
    (1, "model.layers.0.self_attn.o_proj"),
    (7, "model.layers.1.mlp.down_proj"),
])
def test_verify_names_the_layer_of_a_wrong_bit(model, executable, tmp_path, number, layer):
    ir = tercet("compile", model, "--compile-to=pack-weights").stdout
    weights = re.findall(r"packed_matmul .*? ins\(%\w+, %\w+, %\w+, (%\w+),", ir)[number]
    constant = re.search(weights + r" = ternary.packed_parameter (%\w+)", ir)[1]
    offset = int(re.search(constant + r" = arith.constant (\d+)", ir)[1])
    data = bytearray(executable.read_bytes())
    data[find_weights(data) + offset] ^= 1  # a trit of the first tile, in whatever packing
    spoiled = tmp_path / "spoiled"
    spoiled.write_bytes(data)
    spoiled.chmod(0o755)
    done, checks = verify(model, spoiled)
    assert done.returncode == 1 and not checks["kernels"]["passed"]
    detail = checks["kernels"]["detail"]
    assert detail.startswith(f"first differs at {layer} (ternary.packed_matmul), token "), detail
    assert int(re.search(r", column (\d+): ", detail)[1]) < 80


@pytest.mark.parametrize("arguments, ranges, message", [
    (["-p", "a"], b"", "--trace: needs --tokens to say which tokens"),
    (["--tokens", "1"], b"12345", "is no array of ranges"),
    (["--tokens", "1"], struct.pack("<3Q", 0, 2**63, 8), "a range leaves the arena"),
    (["--tokens", "1"], struct.pack("<3Q", 0, 8, 2**64 - 8), "a range leaves the arena"),
    (["--tokens", ",".join("1" * 60), "--chunk", "8"], b"", "60 tokens are more than one step (8)"),
])
def test_refused_traces(executable, tmp_path, arguments, ranges, message):
    trace = tmp_path / "trace"
    trace.write_bytes(ranges)
    done = subprocess.run([executable, *arguments, "--trace", trace], capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert trace.read_bytes() == ranges


def test_targets():
    targets = json.loads(run(TERCET, "targets", "--json"))
    assert "x86-64-v4" in [level["name"] for level in targets["levels"]]
    assert tercet("compile", "m", "-o", "x", "--target", targets["native"]["target"]).stderr.find("target") < 0


@pytest.mark.parametrize("command", ["compile", "inspect", "verify", "tune", "bench", "run", "targets"])
def test_help_shows_examples(command):
    done = tercet(command, "--help")
    assert done.returncode == 0 and f"  tercet {command}" in done.stdout.split("EXAMPLES:")[1]


# ---- What is refused --------------------------------------------------------

@pytest.mark.parametrize("arguments, message", [
    (["complie"], "unknown command 'complie', did you mean 'compile'?"),
    (["compile"], "missing argument; usage: tercet compile MODEL -o OUT [options]"),
    (["compile", "a", "b", "-o", "x"], "unexpected argument 'b'"),
    (["compile", "m"], "no output file; give -o OUT"),
    (["compile", "m", "--taget=x"], "unknown option '--taget' for compile, did you mean '--target'?"),
    (["compile", "m", "--emit=ex"], "--emit=ex: the value is one of exe, lib, obj, asm, llvm, mlir"),
    (["compile", "m", "--target"], "--target needs a value"),
    (["compile", "m", "--target=x86-64-v9", "-o", "x"], "unknown target 'x86-64-v9', nearest is 'x86-64-v4'"),
    (["verify", "m", "--target=x86-64-v3,x86-64-v4"], "only `compile` and `run` take several targets"),
    (["compile", "m", "--context=0", "-o", "x"], "--context=0: the value is a whole number above 0"),
    (["compile", "m", "--kv=int4", "-o", "x"], "--kv=int4: the value is one of f32, bf16, int8"),
    (["compile", "m", "--compile-to=quantize"], "did you mean 'quantise'?"),
    (["compile", "/none", "-o", "x"], "/none: no such file or directory"),
    (["compile", "m", "-o", "/tmp"], "'/tmp' is a directory; give the name of a file"),
    (["compile", "m", "-o", "/none/x"], "cannot write to directory '/none': No such file or directory"),
    (["compile", "m", "-o", "x", "--target=aarch64-apple-darwin"], "cannot link for target 'aarch64-apple-darwin'"),
    (["compile", "m", "-o", "x", "--target=wasm32", "--emit=lib"], "WebAssembly has no shared libraries"),
    (["compile", "m", "-o", "x", "--target=wasm32,wasm32+simd128"], "one of several levels would run nowhere else"),
    (["compile", "m", "-o", "x", "--target=wasm32+simd"], "has no feature 'simd', nearest is 'simd128'"),
    (["bench", "/none"], "'/none': No such file or directory"),
    (["run", "/none"], "no such model: '/none'"),
    (["verify", "m", "--tokens=1,x"], "--tokens=1,x: 'x' is not a token id"),
])
def test_one_line(arguments, message, tmp_path):
    done = tercet(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tercet: error: ") and message in lines[0], done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kilobytes", [1000, 5000])  # in the link; in the weights
def test_disk_full(model, tmp_path, kilobytes):
    done = subprocess.run(["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "-", TERCET, "compile", model,
                           "-o", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupt_leaves_nothing(model, tmp_path):
    for delay in (0.05, 0.2, 0.4):
        process = subprocess.Popen([TERCET, "compile", model, "-o", tmp_path / "out"], stderr=subprocess.PIPE)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        if process.wait() != 0:
            assert list(tmp_path.iterdir()) == []
        else:
            (tmp_path / "out").unlink()
