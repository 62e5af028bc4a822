# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`tercet compile` on what it must refuse: one line, exit status 1, and nothing
left behind. What the importer says about each bad file is in tests/frontends."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/frontends"))
import checkpoint
from checkpoint import config, llama_config, tensors, with_header, write

BIN = pathlib.Path(os.environ["TERCET_BIN_DIR"])
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


def refusal(command, directory):
    """The line that a failing command prints; `directory` stays empty."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not done.stdout, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tercet: error: "), done.stderr
    assert not list(directory.iterdir())
    return lines[0]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# ---- The model ----------------------------------------------------------------

def code_three():
    dtype, shape, data = tensors()[Q_PROJ]
    return {Q_PROJ: (dtype, shape, data[:-1] + b"\xff")}


def one_nan(name, size):
    values = np.ones(size)
    values[3] = np.nan
    return {name: checkpoint.bf16(values)}


MODELS = {
    "code-three": (code_three(), config(), Q_PROJ),
    "nan-norm": (one_nan(NORM, checkpoint.HIDDEN), config(), NORM),
    "nan-embedding": (one_nan("model.embed_tokens.weight", (checkpoint.VOCAB, checkpoint.HIDDEN)), config(),
                      "model.embed_tokens.weight"),
    "missing": ({NORM: None}, config(), NORM),
    "wrong-shape": ({NORM: checkpoint.bf16(np.ones(7))}, config(), NORM),
    "wrong-dtype": ({NORM: ("I32", [32], bytes(128))}, config(), NORM),
    "contradiction": ({}, config(num_hidden_layers=3), "model.layers.2."),
    "architecture": ({}, config(architectures=["GemmaForCausalLM"], model_type="gemma"), "GemmaForCausalLM"),
    "not-ternary": ({}, llama_config(quantization_config=None), "an ordinary Llama"),
}


@pytest.mark.parametrize("emit", ["exe", "lib"])
@pytest.mark.parametrize("name", MODELS)
def test_model(tmp_path, out, name, emit):
    changes, fields, expected = MODELS[name]
    contents = {k: v for k, v in {**tensors(), **changes}.items() if v}
    model = write(tmp_path / "model", contents, fields)
    assert expected in refusal([BIN / "tercet", "compile", model, "-o", out / "x", f"--emit={emit}"], out)


def peak_memory(command):
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 1
    return usage.ru_maxrss << 10


ENTRY = '{"dtype": "U8", "shape": [%s], "data_offsets": [0, %s]}'
HUGE = {
    "header-length": (b"\xff" * 8 + b"{}", config()),
    "header": (with_header(b" " * 90_000_000), config()),
    "shape": (with_header(('{"t": ' + ENTRY % (2**60, 2**60) + "}").encode()), config()),
    "offsets": (with_header(('{"t": ' + ENTRY % (2**62, 2**62) + "}").encode(), b"1"), config()),
    "vocabulary": (None, config(vocab_size=2**31 - 1)),
    "layers": (None, config(num_hidden_layers=1000)),
    "hidden": (None, config(hidden_size=131072)),
}


@pytest.mark.parametrize("name", HUGE)
def test_nothing_big_is_allocated_before_it_is_checked(tmp_path, out, name):
    contents, fields = HUGE[name]
    model = write(tmp_path / "model", tensors(), fields)
    file = model / "model.safetensors"
    if contents:
        file.write_bytes(contents)
    command = [BIN / "tercet", "compile", model, "-o", out / "x"]
    assert "model" in refusal(command, out)
    floor = peak_memory([BIN / "tercet", "compile", tmp_path / "absent", "-o", out / "x"])
    assert peak_memory(command) < floor + file.stat().st_size + (64 << 20)


# ---- The output -----------------------------------------------------------------

@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write(tmp_path_factory.mktemp("models") / "tiny", tensors(), config())


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_no_permission(model, out):
    out.chmod(0o500)
    assert "Permission denied" in refusal([BIN / "tercet", "compile", model, "-o", out / "x"], out)


def test_file_system_is_read_only(model, out):
    if not pathlib.Path("/proc/version").exists():
        pytest.skip("no /proc")
    assert "cannot write" in refusal([BIN / "tercet", "compile", model, "-o", "/proc/tercet-output"], out)


def on_full_disk(directory, size, script, *arguments):
    """Runs a shell script in a new tmpfs of `size`, and then lists what is in it."""
    unshare = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
    mount = f"mount -t tmpfs -o size={size} tmpfs . && cd $PWD && "
    options = dict(cwd=directory, capture_output=True, text=True, timeout=60)
    if subprocess.run([*unshare, "sh", "-c", mount + "[ $(stat -fc %T .) = tmpfs ]"], **options).returncode:
        pytest.skip("may not mount a tmpfs")
    script = mount + script + "; status=$?; ls -A; exit $status"
    return subprocess.run([*unshare, "sh", "-c", script, "sh", *map(str, arguments)], **options)


# In the link; in the weights; in the code.
@pytest.mark.parametrize("size, options", [
    ("200k", []), ("1m", []), ("3m", []), ("1m", ["--emit=lib"]), ("4k", ["--emit=obj"]), ("8k", ["--emit=mlir"])])
def test_disk_full(model, out, size, options):
    done = on_full_disk(out, size, '"$@" -o out', BIN / "tercet", "compile", model, *options)
    assert done.returncode == 1 and done.stdout == "", done
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("tercet: error: "), done.stderr
    assert "No space left on device" in done.stderr


def test_old_output_survives_a_failure(tmp_path, out):
    contents = {**tensors(), **code_three()}
    bad = write(tmp_path / "bad", contents, config())
    (out / "x").write_text("precious")
    done = subprocess.run([BIN / "tercet", "compile", bad, "-o", out / "x"], capture_output=True)
    assert done.returncode == 1
    assert (out / "x").read_text() == "precious" and len(list(out.iterdir())) == 1


@pytest.mark.parametrize("command", [["--help"], ["targets"], ["compile", "MODEL", "--emit=mlir"], ["inspect", "MODEL"],
                                     ["inspect", "MODEL", "--json"], ["verify", "MODEL"]])
def test_full_stdout(model, command):
    command = [str(model) if word == "MODEL" else word for word in command]
    with open("/dev/full", "w") as full:
        done = subprocess.run([BIN / "tercet", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "tercet: error: cannot write to stdout: No space left on device\n"


# ---- The target -------------------------------------------------------------------

@pytest.mark.parametrize("target, message", [
    ("riscv46", "unknown target 'riscv46', nearest is 'riscv64'"),
    ("neoverse-n7", "unknown target 'neoverse-n7', nearest is 'neoverse-n"),
    ("aarch64+dotprot", "target 'aarch64' has no feature 'dotprot', nearest is 'dotprod'"),
    ("riscv64+dotprod", "target 'riscv64' has no feature 'dotprod'"),
    ("aarch64-apple-darwin", "cannot link for target 'aarch64-apple-darwin'; use --emit=obj, asm or llvm"),
    ("aarch64-linux-android", "cannot link for target 'aarch64-unknown-linux-android'; use --emit=obj, asm or llvm"),
])
def test_target(model, out, target, message):
    assert message in refusal([BIN / "tercet", "compile", model, "-o", out / "x", f"--target={target}"], out)


@pytest.mark.parametrize("options, message", [
    (["--target=x86-64-v3,aarch64"], "targets of one binary have one architecture, not 'x86-64-v3' and 'aarch64'"),
    (["--target=x86-64-v3,x86-64-v3"], "target 'x86-64-v3' is named twice"),
    (["--target=x86-64-v3,"], "unknown target ''"),
    (["--target=x86-64-v2,x86-64-v3", "--emit=obj"], "several targets make an executable or a library"),
])
def test_several_targets(model, out, options, message):
    assert message in refusal([BIN / "tercet", "compile", model, "-o", out / "x", *options], out)


@pytest.mark.parametrize("target, start", [
    ("aarch64-apple-darwin", b"\xcf\xfa\xed\xfe"), ("aarch64-linux-android", b"\x7fELF"), ("riscv64", b"\x7fELF")])
def test_object_for_any_target(model, out, target, start):
    subprocess.run([BIN / "tercet", "compile", model, "-o", out / "x.o", "--emit=obj", f"--target={target}"], check=True)
    assert (out / "x.o").read_bytes().startswith(start)


@pytest.mark.parametrize("architecture, package", [
    ("aarch64", "libstdc++-12-dev-arm64-cross"), ("riscv64", "libstdc++-12-dev-riscv64-cross")])
def test_no_runtime_for_the_target(tmp_path, model, out, architecture, package):
    """A compiler that was built without the cross libraries."""
    (tmp_path / "bin").mkdir()
    compiler = shutil.copy(BIN / "tercet", tmp_path / "bin")
    line = refusal([compiler, "compile", model, "-o", out / "x", f"--target={architecture}"], out)
    assert f"no runtime for target '{architecture}'" in line and package in line


# ---- The command line -------------------------------------------------------------

@pytest.mark.parametrize("command", ["compile", "inspect", "verify", "tune", "bench", "run", "targets"])
def test_unknown_flag(command, out):
    assert f"unknown option '--frobnicate' for {command}" in refusal([BIN / "tercet", command, "--frobnicate"], out)


@pytest.mark.parametrize("tool", ["tercet-opt", "tercet-import", "tercet-reference", "tercet-test-tokenize"])
def test_unknown_flag_of_other_tools(tool):
    done = subprocess.run([BIN / tool, "--frobnicate"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not done.stdout and "frobnicate" in done.stderr
