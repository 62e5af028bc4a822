# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What people rely on when they use a compiled model: the bundled one, from its
checkpoint to its text."""

import json
import os
import pathlib
import resource
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/models/austen"
TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
PROMPT = "It was a truth"
RATES = "tokens, "  # of the line on stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "austen"
    subprocess.run([TERCET, "compile", MODEL, "-o", path], check=True)
    return path


@pytest.fixture
def run(program):
    def run(*arguments, **options):
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, timeout=60, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode(), done.stderr.decode()  # both are valid UTF-8
    return run


@pytest.fixture
def text(run):
    """A short continuation of PROMPT."""
    return lambda *arguments: run("-p", PROMPT, "-n", 40, *arguments)[0]


def test_compiles_in_two_seconds(tmp_path):
    """Of processor time: other programs may keep this one waiting."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([TERCET, "compile", MODEL, "-o", tmp_path / "x"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_stdout_is_text_and_nothing_else(run):
    out, err = run("-p", PROMPT, "-n", 20, "--temp", 0)
    answer = json.loads(run("-p", PROMPT, "-n", 20, "--temp", 0, "--json")[0])
    assert out == answer["text"] + "\n" and len(answer["tokens"]) == 20
    assert RATES in err and err.count("\n") == 1 and "\r" not in err


def test_bench_knows_every_kernel(run, program):
    """By the names that `tercet verify` gives them, all of which take time."""
    kernels = json.loads(run("--bench", "--prompt", 8, "--gen", 2, "--rounds", 1, "--json")[0])["kernels"]
    verify = subprocess.run([TERCET, "verify", MODEL, program], capture_output=True, text=True, check=True)
    assert f" {len(kernels)} kernels" in verify.stdout
    assert kernels[1]["op"] == "rms_norm + quantize_activations"
    assert kernels[2]["op"].startswith("packed_matmul 512x256 ") and "layers.0.self_attn.q_proj" in kernels[2]["layer"]
    assert all(kernel["decode_us"] > 0 and kernel["prefill_us"] > 0 for kernel in kernels)


@pytest.mark.parametrize("parallel", [1, 3, 8])
def test_many_prompts_are_answered_as_one_by_one(run, parallel):
    prompts = ["It was", "My dear Mr. Bennet, " * 30, "A", "She had been", "The carriage", "No one"]
    options = "-n", 30, "--temp", 0.8, "--seed", 3
    lines = run("--prompts", "-", "--parallel", parallel, *options, input="\n".join(prompts).encode())[0].splitlines()
    for i, (prompt, line) in enumerate(zip(prompts, lines, strict=True)):
        alone, answer = json.loads(run("-p", prompt, "--json", *options)[0]), json.loads(line)
        assert answer["index"] == i
        for key in ("text", "tokens", "prompt_tokens", "stop_reason"):
            assert answer[key] == alone[key]


def test_prompt_from_stdin(run, text):
    assert run("-p", "-", "-n", 40, input=PROMPT.encode())[0] == text()


def test_json(run):
    answer = json.loads(run("-p", PROMPT, "-n", 7, "--json")[0])
    assert answer["prompt_tokens"] > 1 and len(answer["tokens"]) == 7
    assert answer["stop_reason"] == "length" and answer["tokens_per_s"] > 0


def test_greedy_takes_the_likeliest_token(run, tmp_path):
    """The first argmax of every row, fed back; and prefill agrees with decoding."""
    tokens = json.loads(run("--tokens", "5,6,7", "-n", 30, "--temp", 0, "--json")[0])["tokens"]
    path = tmp_path / "logits.npy"
    run("--tokens", ",".join(map(str, [5, 6, 7] + tokens)), "--logits", path)
    assert np.load(path).argmax(axis=1)[2:-1].tolist() == tokens


def test_seeds(text):
    hot = ("--temp", 1, "--top-p", 1)
    assert text(*hot, "--seed", 1) == text(*hot, "--seed", 1, "--threads", 1, "--chunk", 1)
    assert len({text(*hot, "--seed", seed) for seed in range(5)}) == 5
    assert len({text("--temp", 0, "--seed", seed) for seed in range(3)}) == 1


def test_sampling_defaults_come_from_generation_config(text):
    fields = json.loads((MODEL / "generation_config.json").read_text())
    assert text() == text("--temp", fields["temperature"], "--top-p", fields["top_p"], "--seed", 0)
    assert text() != text("--temp", 0)


def test_stop(text):
    whole = text().rstrip("\n")
    stop = whole[len(whole) // 2:][:6]
    assert text("--stop", "never occurs", "--stop", stop) == whole[:whole.index(stop)] + "\n"


def test_special_tokens_are_text_unless_asked_for(run):
    special = json.loads((MODEL / "tokenizer_config.json").read_text())["eos_token"]
    count = lambda *flags: json.loads(run("-p", special, "-n", 1, "--json", *flags)[0])["prompt_tokens"]
    assert count("--special") < count()


def test_never_writes_part_of_a_character(program):
    """Every read from a pipe, of text so improbable that it cuts characters."""
    strange = 0
    wild = ["--temp", "100", "--top-p", "1", "--top-k", "0"]
    for seed in range(10):
        process = subprocess.Popen([program, "-p", "\u00e9\u4e2d", "-n", "900", *wild, "--seed", str(seed)],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        while piece := os.read(process.stdout.fileno(), 1 << 20):
            strange += sum(character > "\x7f" for character in piece.decode())
        process.stdout.close()
        assert process.wait() == 0
    assert strange > 20


def test_full_context_ends_the_text(run):
    out, err = run("-p", PROMPT, "--context", 24, "--temp", 0)
    assert "context of 24 tokens is full" in err
    assert run("-p", PROMPT, "-n", 200, "--temp", 0)[0].startswith(out.rstrip("\n"))


def test_chat(run):
    turns = b"Who are you?\nWhere do you live?\n"
    out, err = run("--chat", "-n", 12, input=turns)
    assert out.strip() and err.count(RATES) >= 2
    assert run("--chat", "-n", 12, "--threads", 1, input=turns)[0] == out
    first = run("--chat", "-n", 12, input=turns[:turns.index(b"\n") + 1])[0]
    assert out.startswith(first) and len(out) > len(first)
    assert run("--chat", input=b"") == ("", "")


def test_chat_in_a_full_context(run):
    _, err = run("--chat", "--context", 64, "-n", 30, input=b"And then?\n" * 10)
    assert "context of 64 tokens" in err


def test_perplexity(run, tmp_path):
    path = tmp_path / "text"
    path.write_text("It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 3)
    result = json.loads(run("--perplexity", path, "--json")[0])
    assert result["bytes"] == path.stat().st_size and 1 < result["perplexity"] < 200
    assert result["nll_per_token"] == pytest.approx(np.log(result["perplexity"]), rel=1e-6)
    shown = run("--perplexity", path)[0].split("perplexity")[1]
    assert float(shown) == pytest.approx(result["perplexity"], abs=1e-5)


def test_needs_nothing_but_itself(program, tmp_path):
    """An empty directory, no environment, another name."""
    moved = tmp_path / "renamed"
    moved.write_bytes(program.read_bytes())
    moved.chmod(0o755)
    outputs = [subprocess.run([path, "-p", PROMPT, "-n", "20"], cwd=tmp_path, env={}, check=True,
                              capture_output=True).stdout for path in (program, moved)]
    assert outputs[0] == outputs[1]
