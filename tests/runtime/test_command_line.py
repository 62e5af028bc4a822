# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The executable's command line, on the toy model of FakeModel.cpp."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time
from xml.etree import ElementTree

import numpy
import pytest

BIN = pathlib.Path(os.environ["TERCET_FAKE_MODEL_DIR"])
VOCAB = 300


def run(*args, program="fake-model", ok=True, **kwargs):
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    result = subprocess.run([BIN / program, *map(str, args)], text=True, timeout=60,
                            stderr=subprocess.PIPE, **kwargs)
    assert result.returncode == (0 if ok else 1), result
    return result


def error(*args, **kwargs):
    """The one line that a failing command prints."""
    result = run(*args, ok=False, **kwargs)
    assert not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def logits(tmp_path, *args):
    path = tmp_path / "out.npy"
    run(*args, "--logits", path)
    return numpy.load(path)


def test_info_and_help():
    assert run("--info").stdout == '{"model": "fake"}\n'
    assert "--perplexity FILE" in run("--help").stdout


def test_logits_do_not_depend_on_threads_or_chunks(tmp_path):
    ids = ",".join(str(i * 37 % VOCAB) for i in range(50))
    expected = logits(tmp_path, "--tokens", ids)
    assert expected.shape == (50, VOCAB) and expected.dtype == numpy.float32
    assert (expected.argmax(axis=1) == [(i * 37 + 1) % VOCAB for i in range(50)]).all()
    for threads in (1, 2, 3, 8):
        for chunk in (1, 7, 50):
            got = logits(tmp_path, "--tokens", ids, "--threads", threads, "--chunk", chunk)
            assert (got == expected).all()
    assert (logits(tmp_path, "--tokens", ids, "--copy", "--check") == expected).all()


def test_generates_until_the_end_of_text():
    result = run("--tokens", "97", program="fake-model-ids")
    assert result.stdout == ",".join(map(str, range(98, 123))) + "\n"
    assert "answer 25 tokens" in result.stderr and "ended by eos" in result.stderr


def test_generation_json():
    got = json.loads(run("--tokens", "97,98", "-n", 3, "--json").stdout)
    assert got["tokens"] == [99, 100, 101] and got["prompt_tokens"] == 2
    assert got["stop_reason"] == "length" and got["text"] == "cde"
    assert json.loads(run("--tokens", "97", "-n", 0, "--json").stdout)["tokens"] == []
    assert json.loads(run("--tokens", "97", "--json").stdout)["stop_reason"] == "eos"


def test_tokens_from_stdin():
    result = run("--tokens", "-", "-n", 1, stdin=None, input="96\n97 \n", program="fake-model-ids")
    assert result.stdout == "98\n"


def test_full_context_ends_the_text_with_a_notice():
    result = run("--tokens", "97", "--context", 4, program="fake-model-ids")
    assert result.stdout == "98,99,100,101\n"
    assert "context of 4 tokens is full" in result.stderr


def test_sampling_depends_on_the_seed_alone():
    def sample(*args):
        return run("--tokens", "1", "-n", 40, "--temp", 3, *args).stdout

    assert sample("--seed", 1) == sample("--seed", 1, "--threads", 1)
    assert sample("--seed", 1) != sample("--seed", 2)
    assert sample("--seed", 1, "--top-k", 1) == run("--tokens", "1", "-n", 40).stdout


def test_bench():
    got = json.loads(run("--bench", "--prompt", 32, "--gen", 8, "--threads", 2, "--json").stdout)
    assert [entry["threads"] for entry in got["prefill"]] == [1, 2]
    assert got["prefill"][0]["tokens"] == 32 and got["prefill"][0]["tokens_per_s"] > 0
    assert got["prefill"][1]["fraction_of_dot_peak"] > 0
    # Weights, and the KV cache of 4.5 tokens: the mean length while generating 8.
    assert got["decode"][0]["bytes_per_token"] == (1 << 20) + 4.5 * 4
    assert got["decode"][1]["read_gb_per_s"] > 0 and got["decode"][1]["fraction_of_read"] > 0
    assert got["cpu"] and got["target"] == "fake" and got["load_s"] > 0 and got["peak_rss_mb"] > 0
    assert "prefill 32 tok/s" in run("--bench", "--prompt", 32, "--gen", 8).stdout
    assert "context" in error("--bench", "--prompt", 97)
    assert "context" in error("--bench", "--prompt", 32, "--gen", 8, "--depth", 65)
    assert "--batch" in error("--bench", "--batch", "1,0")
    assert "--batch" in error("--bench", "--batch", ",")


def test_bench_names_kernels_and_spread():
    got = json.loads(run("--bench", "--prompt", 32, "--gen", 8, "--rounds", 4, "--json").stdout)
    assert got["rounds"] >= 4
    assert [(kernel["op"], kernel["layer"]) for kernel in got["kernels"]] == [("linear 300x1", "fake.<head>")]
    assert got["kernels"][0]["decode_us"] > 0 and got["kernels"][0]["prefill_us"] > 0
    rows = got["prefill"] + got["decode"]
    assert all(row["spread"] >= 0 and row["fraction_spread"] >= 0 for row in rows)
    assert ("busy" in got["noise"]) == any(row["fraction_spread"] > 0.1 for row in rows)


def test_bench_report(tmp_path):
    page = tmp_path / "report.html"
    result = run("--bench", "--prompt", 32, "--gen", 8, "--threads", 2, "--batch", "1,3", "--report", page)
    text = page.read_text()
    ElementTree.fromstring(text.partition("<svg")[1] + text.partition("<svg")[2].partition("</svg>")[0] + "</svg>")
    for part in ("2 threads, 3 sequences", "linear 300x1", "fake.&lt;head>", "2 threads: "):
        assert part in text, part
    assert ("too busy" in text) == ("warning: the machine is too busy" in result.stderr)
    assert "src=" not in text and "href=" not in text  # one file
    assert "--bench" in error("--tokens", "1", "--report", page)
    assert "no/such" in error("--bench", "--prompt", 8, "--gen", 2, "--report", "no/such/page.html")


def test_bench_of_batches_and_depth():
    got = json.loads(run("--bench", "--prompt", 32, "--gen", 8, "--threads", 1, "--batch", "1,4", "--depth", 50,
                         "--json").stdout)
    assert [entry["batch"] for entry in got["decode"]] == [1, 4]
    assert {entry["depth"] for entry in got["decode"] + got["prefill"]} == {50}
    # A quarter of the weights, and 50 tokens more of the KV cache.
    assert got["decode"][1]["bytes_per_token"] == (1 << 18) + 54.5 * 4
    assert got["decode"][1]["fraction_of_prefill"] > 0
    assert run("--bench", "--prompt", 32, "--gen", 8, "--batch", "1 3 16").stdout.count("GB/s") == 3 * len(
        {1, len(os.sched_getaffinity(0))})
    assert "context" in error("--bench", "--gen", 97)


def test_text():
    assert run("-p", "ab").stdout == "cdefghijklmnopqrstuvwxyz\n"
    assert run("-p", "-", "-n", 3, stdin=None, input="ab").stdout == "cde\n"
    assert run("-p", "ab", "--stop", "gx", "--stop", "gh").stdout == "cdef\n"
    # Held back as the start of a stop text, shown when the text ends.
    assert run("-p", "ab", "-n", 3, "--stop", "def").stdout == "cde\n"
    assert "error: the prompt has 97 tokens" in error("-p", 96 * "a")


def test_special_tokens_in_the_text():
    def prompt_tokens(*args):
        got = run("-p", "<|user|>a", "-n", 1, "--json", *args)
        return json.loads(got.stdout)["prompt_tokens"]

    assert prompt_tokens() == 10 and prompt_tokens("--special") == 3


def test_output_is_always_utf8():
    # The answer to "Â" (C3 82) is byte 83 and on: half characters become U+FFFD.
    assert run("-p", "Â", "-n", 1).stdout == "\ufffd\n"
    assert json.loads(run("-p", 'a"', "-n", 2, "--json").stdout)["text"] == "#$"


def chat(text, *args, **kwargs):
    result = run("--chat", *args, stdin=None, input=text, **kwargs)
    return result.stdout, result.stderr


def test_chat():
    out, err = chat("ab\n\nxyz\n", "-n", 2)
    assert out == ";<\n;<\n"  # The successors of the ":" that the template ends with.
    # <|user|> : a b <|end|> <|assistant|> :
    assert "prompt 7 tokens" in err
    # In the cache: these and ";". New: "<" <|end|> <|user|> : x y z <|end|> <|assistant|> :
    assert "prompt 10 tokens" in err


def test_chat_reuses_the_cache_without_changing_answers():
    turns = "one\ntwo\nthree\n"
    sampled = ("-n", 3, "--temp", 3, "--seed", 7)
    assert chat(turns, *sampled, "--chunk", 1)[0] == chat(turns, *sampled, "--threads", 1)[0]
    # A system message comes first: four tokens more, once.
    _, err = chat("a\nb\n", "-n", 1, "--system", "S")
    assert "prompt 10 tokens" in err and "prompt 8 tokens" in err


def test_special_tokens_in_chat():
    assert "prompt 12 tokens" in chat("<|end|>\n", "-n", 1)[1]
    assert "prompt 6 tokens" in chat("<|end|>\n", "-n", 1, "--special")[1]


def test_chat_ends_when_the_context_is_full():
    _, err = chat(20 * "0123456789\n", "-n", 1)
    assert "fills the context of 96 tokens" in err
    assert "the prompt has" in error("--chat", stdin=None, input=96 * "a" + "\n")
    assert "without a tokenizer" in error("--chat", program="fake-model-ids")


def test_interrupts():
    """The first Ctrl-C ends the answer, the second one the program."""
    with subprocess.Popen([BIN / "fake-model", "--chat"], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True) as process:
        killer = threading.Timer(30, process.kill)
        killer.start()
        process.stdin.write("a\n")
        process.stdin.flush()
        assert "answer" in process.stderr.readline()
        time.sleep(0.5)  # Now it waits for a line.
        process.send_signal(signal.SIGINT)
        assert "Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        killer.cancel()


def perplexity_oracle(tmp_path, ids, context):
    """Windows of context - 1 ids, each after a BOS, every one of them predicted."""
    total = 0.0
    for at in range(0, len(ids), context - 1):
        window = ids[at:at + context - 1]
        inputs = ",".join(map(str, [256] + window[:-1]))
        rows = logits(tmp_path, "--tokens", inputs).astype(numpy.float64)
        top = rows.max(axis=1)
        total += (numpy.log(numpy.exp(rows - top[:, None]).sum(axis=1)) + top
                  - rows[range(len(window)), window]).sum()
    return total


@pytest.mark.parametrize("context", [2, 10, 96])
def test_perplexity(tmp_path, context):
    text = "The quick brown fox jumps over the lazy dog.\n" * 5
    path = tmp_path / "text"
    path.write_text(text)
    total = perplexity_oracle(tmp_path, list(text.encode()), context)
    args = ("--perplexity", path, "--json", "--context", context)
    got = json.loads(run(*args).stdout)
    assert got["tokens"] == got["bytes"] == len(text) and got["context"] == context
    assert got["nll_per_token"] == pytest.approx(total / len(text), rel=1e-7)
    assert got["bits_per_byte"] == pytest.approx(total / len(text) / numpy.log(2), rel=1e-7)
    assert got["perplexity"] == pytest.approx(numpy.exp(total / len(text)), rel=1e-6)
    assert run(*args, "--threads", 1, "--chunk", 1).stdout == run(*args).stdout


def test_perplexity_errors(tmp_path):
    assert "No such file" in error("--perplexity", tmp_path / "missing")
    (tmp_path / "empty").write_text("")
    assert "no token to predict" in error("--perplexity", tmp_path / "empty")


def test_text_needs_a_tokenizer():
    assert "without a tokenizer" in error("-p", "x", program="fake-model-ids")


def test_bad_arguments():
    assert "unknown argument '--nope'" in error("--nope")
    assert "token id 300 (number 2)" in error("--tokens", "1,300", "--logits", "/dev/null")
    assert "--help" in error()
    too_long = ",".join(["1"] * 97)
    assert "97 tokens" in error("--tokens", too_long, "--logits", "/dev/null")
    assert "compiled for 96" in error("--tokens", "1", "--logits", "/dev/null", "--context", 97)


def test_unwritable_output(tmp_path):
    assert "No space left" in error("--tokens", "1", "--logits", "/dev/full")
    assert "cannot write" in error("--tokens", "1", "--logits", tmp_path / "no" / "x.npy")
    assert not list(tmp_path.iterdir())
    with open("/dev/full", "w") as full:
        assert "No space left" in run("--info", ok=False, stdout=full).stderr
    closed = subprocess.run(f"{BIN}/fake-model --info >&-", shell=True, text=True,
                            stderr=subprocess.PIPE)
    assert closed.returncode == 1 and "stdout" in closed.stderr


def test_missing_cpu_feature():
    assert "needs feature 63; this CPU has" in error("--info", program="fake-model-foreign")


def damaged_copy(tmp_path, change):
    data = bytearray((BIN / "fake-model").read_bytes())
    blob = data.index(b"TERCETB\0" + (5).to_bytes(4, "little"), 4096)
    path = tmp_path / "damaged"
    path.write_bytes(change(data, blob))
    path.chmod(0o755)
    return path


def flip(at):
    def change(data, blob):
        data[blob + at] ^= 1
        return data
    return change


# The blob's header, its sections, the weights: every part may be cut off.
@pytest.mark.parametrize("keep", [0, 100, 4096, 2 << 20, (3 << 20) - 1])
def test_truncated_file(tmp_path, keep):
    path = damaged_copy(tmp_path, lambda data, blob: data[:blob + keep])
    assert "truncated" in error("--info", program=path)


@pytest.mark.parametrize("at", [16, 100, 200, 330])
def test_damaged_file(tmp_path, at):
    assert "damaged" in error("--info", program=damaged_copy(tmp_path, flip(at)))


def test_damaged_weights_are_found_by_check(tmp_path):
    path = damaged_copy(tmp_path, flip((2 << 20) + 1000))
    command = ("--tokens", "1", "--logits", tmp_path / "x.npy")
    run(*command, program=path)
    assert "hash of the weights" in error(*command, "--check", program=path)


# ---- Many prompts ---------------------------------------------------------------

def answers(text, *args, **kwargs):
    result = run("--prompts", "-", *args, stdin=None, input=text, **kwargs)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_prompts_are_answered_as_one_by_one():
    prompts = [chr(ord("a") + 7 * i % 23) * (1 + 5 * i % 31) for i in range(40)]
    options = "--temp", 3, "--seed", 7, "-n", 11, "--stop", "mn"
    expected = []
    for i, prompt in enumerate(prompts):
        alone = json.loads(run("-p", prompt, "--json", *options).stdout)
        expected.append({key: alone[key] for key in ("text", "tokens", "prompt_tokens", "stop_reason")} | {"index": i})
    # Steps of 16 tokens, and of 3: fewer than there are sequences.
    for parallel in (1, 2, 7, 16, 40, 1000):
        for extra in ((), ("--threads", 3), ("--chunk", 3)):
            assert answers("\n".join(prompts), *options, "--parallel", parallel, *extra) == expected
    assert len({answer["stop_reason"] for answer in expected}) > 1


def test_prompts_in_json():
    lines = [r'{"prompt": "a\nb"}', r'{ "prompt" : "\u0061\ud83d\ude00\u00e9b" } ', '{"tokens": [97, 98]}', "{a"[1:]]
    got = answers("\r\n".join(lines) + "\n", "-n", 2)
    assert [answer["text"] for answer in got] == ["cd", "cd", "cd", "bc"]
    assert [answer["prompt_tokens"] for answer in got] == [4, 9, 2, 2]
    assert answers("") == []
    assert answers("ab\n", "-n", 0)[0]["tokens"] == []
    assert answers("aaaa", "--context", 6)[0] == {
        "index": 0, "text": "bc", "tokens": [98, 99], "prompt_tokens": 5, "stop_reason": "context"}
    ids = answers('{"tokens": [97]}', "-n", 2, program="fake-model-ids")
    assert ids[0]["tokens"] == [98, 99] and ids[0]["text"] == ""


@pytest.mark.parametrize("line", [
    "{", '{"prompt": "a"', '{"prompt": "a"} x', '{"prompt": a}', '{"prompt": "a", "n": 3}', '{"text": "a"}',
    '{"tokens": []}', '{"tokens": [1.5]}', '{"tokens": [-1]}', '{"tokens": [4294967297]}', '{"tokens": [1,]}',
    r'{"prompt": "\x"}', r'{"prompt": "\u12"}', r'{"prompt": "\ud800"}', r'{"prompt": "\udc00\ud800"}',
    '{"prompt": "\t"}'])
def test_bad_json_prompts(tmp_path, line):
    path = tmp_path / "prompts"
    path.write_text("ab\n" + line + "\n")
    assert f"{path}, line 2: a line that starts with {{ must be" in error("--prompts", path)


def test_interrupted_prompts(tmp_path):
    """Answers that have begun are written as far as they are."""
    path = tmp_path / "prompts"
    path.write_text("ab\n" * 100_000)
    with subprocess.Popen([BIN / "fake-model", "--prompts", path], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
        assert process.wait() == 1
        assert "of 100000 prompts have their answer" in process.stderr.read()
    answers = [json.loads(line) for line in lines]
    assert [answer["index"] for answer in answers] == list(range(len(answers))) and len(answers) < 100_000
    assert all(answer["stop_reason"] in ("eos", "interrupt") for answer in answers)


def test_bad_prompts(tmp_path):
    path = tmp_path / "prompts"
    path.write_text("ab\n" + 96 * "a" + "\n")
    assert f"{path}, line 2: the prompt has 97 tokens, more than the context" in error("--prompts", path)
    path.write_text('{"tokens": [1]}\n{"tokens": [300]}')
    assert "token id 300" in error("--prompts", path)
    assert "line 1: this model was compiled without a tokenizer" in error(
        "--prompts", "-", program="fake-model-ids", stdin=None, input="a\n")
    assert "No such file" in error("--prompts", tmp_path / "missing")
    assert "--parallel 0" in error("--prompts", path, "--parallel", 0)
    assert "--parallel: needs --prompts" in error("-p", "a", "--parallel", 2)


# ---- The prompt cache -----------------------------------------------------------

def cached(path, prompt, *args, **kwargs):
    """The answer, which is that without a cache, and how many tokens were cached."""
    command = "-p", prompt, "-n", 5, "--json", *args
    got, expected = (json.loads(run(*command, *more, **kwargs).stdout) for more in (("--prompt-cache", path), ()))
    assert got["tokens"] == expected["tokens"] and got["text"] == expected["text"]
    assert got["cached_tokens"] + got["prompt_tokens"] == expected["prompt_tokens"]
    return got["cached_tokens"]


def test_prompt_cache(tmp_path):
    path = tmp_path / "cache"
    prompt = "".join(chr(97 + i * 7 % 23) for i in range(70))  # two blocks
    assert cached(path, prompt[:68]) == 0
    assert cached(path, prompt[:68]) == 68  # of 69, with the special one: the last has to be stepped
    assert cached(path, prompt) == 69  # extends
    assert cached(path, prompt) == 70
    assert cached(path, prompt[:10]) == 10  # a beginning, which leaves the file as it is
    assert cached(path, prompt, "--context", 80, "--threads", 2) == 70
    assert cached(path, prompt[:20] + "zz") == 21  # diverges
    assert cached(path, prompt) == 21
    assert os.listdir(tmp_path) == ["cache"]
    # The answer depends on what was loaded, not on the prompt.
    temperature = "-p", prompt, "--temp", 3, "-n", 20
    assert run(*temperature, "--prompt-cache", path).stdout == run(*temperature).stdout


def test_prompt_cache_damage(tmp_path):
    path = tmp_path / "cache"
    command = "-p", 70 * "a", "--prompt-cache", path
    run(*command)
    good = path.read_bytes()
    assert len(good) == 48 + 4 * 71 + 2 * 8 + 2 * 256

    def refused(data):
        path.write_bytes(data)
        message = error(*command)
        assert path.read_bytes() == data and str(path) in message
        return message

    for at in range(0, len(good), 5):
        refused(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
    for size in range(0, len(good), 7):
        refused(good[:size])
    assert "is damaged: delete it" in refused(good + b"x")
    assert "is damaged: delete it" in refused(good[:-1] + bytes([good[-1] ^ 1]))
    assert "is no prompt cache" in refused(b"text\n")
    assert "is no prompt cache" in refused(b"")
    assert "has format 1" in refused(good[:8] + b"\x01" + good[9:])
    assert "holds int8 keys and values and this program has f32 ones" in refused(good[:12] + b"\x02" + good[13:])
    assert "belongs to another model" in refused(good[:16] + b"\x02" + good[17:])


def test_prompt_cache_that_cannot_be_written(tmp_path):
    assert "missing/cache: No such file" in error("-p", "ab", "--prompt-cache", tmp_path / "missing/cache")
    assert "is no prompt cache" in error("-p", "ab", "--prompt-cache", tmp_path)
    assert "the prompt has 97 tokens" in error("-p", 96 * "a", "--prompt-cache", tmp_path / "cache")
    for other in (("--chat",), ("--prompts", "-"), ("-p", "a", "--logits", tmp_path / "x.npy")):
        assert "--prompt-cache: needs -p or --tokens" in error(*other, "--prompt-cache", tmp_path / "cache")
    assert not os.listdir(tmp_path)


def test_a_killed_writer_leaves_the_old_cache(tmp_path):
    """A limit on the size of files kills the program in the middle of writing."""
    path = tmp_path / "cache"
    cached(path, 20 * "b")
    good = path.read_bytes()

    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    for _ in range(2):  # the second time with what the first left behind
        killed = subprocess.run([BIN / "fake-model", "-p", 90 * "b", "--prompt-cache", path],
                                capture_output=True, timeout=60, preexec_fn=limit)
        assert killed.returncode == -signal.SIGXFSZ, killed
        assert path.read_bytes() == good
    assert cached(path, 90 * "b") == 21
