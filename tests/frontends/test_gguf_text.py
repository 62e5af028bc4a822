# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tokenizer, chat template and generation of .gguf files: what is refused, what
is warned about, and what is taken where a file says nothing."""

import os
import subprocess

import pytest

from gguf_file import BOOL, F32, I32, STRING, U32, array, encode, value

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-test-tokenize")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
NAN = float("nan")

KINDS = {"tokens": (array, STRING), "merges": (array, STRING), "scores": (array, F32), "token_type": (array, I32),
         "model": (value, STRING), "pre": (value, STRING), "add_space_prefix": (value, BOOL),
         "add_bos_token": (value, BOOL), "add_eos_token": (value, BOOL)}

GPT2 = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab", "<s>", "</s>"],
        "token_type": [NORMAL] * 3 + [CONTROL] * 2, "merges": ["a b"], "eos_token_id": 4}
PIECES = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + list("ab\u2581") + ["ba", "ab", "aa"]
LLAMA = {"model": "llama", "tokens": PIECES, "scores": [-float(i) for i in range(len(PIECES))],
         "token_type": [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * 6}
ID = {piece: token for token, piece in enumerate(PIECES)}


def write(path, base, *values, **fields):
    """A file with `base`'s tokenizer.ggml fields changed, and more values."""
    encoded = []
    for name, content in {**base, **fields}.items():
        make, kind = KINDS.get(name, (value, U32))
        if content is not None:
            encoded.append(make("tokenizer.ggml." + name, kind, content))
    path.write_bytes(encode(encoded + list(values)))
    return path


def run(path, mode, text="", *flags):
    return subprocess.run([TOOL, path, "--mode=" + mode, *flags], input=text.encode(), capture_output=True, timeout=60)


def succeed(path, mode, text="", *flags, warning=None):
    result = run(path, mode, text, *flags)
    assert result.returncode == 0, result.stderr
    message = result.stderr.decode()
    assert (warning in message and message.count("\n") == 1) if warning else not message, message
    return result.stdout.decode()


def tokens(*arguments, **options):
    return [int(token) for token in succeed(arguments[0], "encode", *arguments[1:], **options).split()]


def template(content, kind=STRING):
    return value("tokenizer.chat_template", kind, content)


ERRORS = {
    "model": (GPT2, {"model": "bert"}, "'tokenizer.ggml.model' is 'bert', which is not supported; 'gpt2' and 'llama' are"),
    "tokens-missing": (GPT2, {"tokens": None}, "'tokenizer.ggml.tokens' is missing"),
    "tokens-none": (GPT2, {"tokens": []}, "'tokenizer.ggml.tokens' is missing"),
    "tokens-twice": (GPT2, {"tokens": ["a", "b", "ab", "a", "</s>"]}, "'tokenizer.ggml.tokens' has \"a\" twice, as 0 and 3"),
    "types-few": (GPT2, {"token_type": [NORMAL]}, "'tokenizer.ggml.token_type' has 1 types for 5 tokens"),
    "pre": (GPT2, {"pre": "wordy"}, "'tokenizer.ggml.pre' is 'wordy', which is not supported; compile the Hugging Face"),
    "merges-missing": (GPT2, {"merges": None}, "'tokenizer.ggml.merges' is missing"),
    "merge-operand": (GPT2, {"merges": ["a b", "a c"]},
                      "'tokenizer.ggml.merges' number 1 merges \"c\", which is not in the vocabulary"),
    "merge-result": (GPT2, {"merges": ["b a"]},
                     "'tokenizer.ggml.merges' number 0 merges into \"ba\", which is not in the vocabulary"),
    "bos": (GPT2, {"add_bos_token": True}, "'tokenizer.ggml.add_bos_token' is true, but no token is"),
    "eos": (GPT2, {"eos_token_id": None, "add_eos_token": True}, "'tokenizer.ggml.add_eos_token' is true, but no token"),
    "scores-missing": (LLAMA, {"scores": None}, f"'tokenizer.ggml.scores' has 0 scores for {len(PIECES)} tokens"),
    "scores-nan": (LLAMA, {"scores": [NAN] * len(PIECES)}, "'tokenizer.ggml.scores' has no number for token 0"),
    "byte": (LLAMA, {"tokens": [p if p != "<0x0A>" else "x" for p in PIECES]},
             "'tokenizer.ggml.tokens' has no token for the byte 10; only BPE with all 256 is supported"),
    "ends": (GPT2, {"tokens": [f"<{i}>" for i in range(3)] + ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
                                                             "<|im_end|>", "<|endoftext|>", "<end_of_turn>"],
                    "token_type": None, "merges": [], "eos_token_id": 0, "eot_token_id": 1, "eom_token_id": 2},
             "'tokenizer.ggml.tokens' is one end token more than the supported 8"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(tmp_path, case):
    base, fields, message = ERRORS[case]
    result = run(write(tmp_path / "m.gguf", base, **fields), "check")
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"error: {tmp_path}/m.gguf: {message}"), result.stderr
    assert result.stderr.count(b"\n") == 1


VALUES = {
    "kind": (value("tokenizer.ggml.pre", U32, 3), "'tokenizer.ggml.pre' must be a string, not 3"),
    "strings": (array("tokenizer.ggml.merges", U32, [3]), "'tokenizer.ggml.merges' must be an array of strings, not an"),
    "template": (template(3, U32), "'tokenizer.chat_template' must be a string, not 3"),
    "templates": (array("tokenizer.chat_templates", STRING, ["rag"]),
                  "'tokenizer.chat_templates' has no template named \"default\""),
    "temperature": (value("general.sampling.temp", F32, -1), "'general.sampling.temp' is negative"),
    "top-p": (value("general.sampling.top_p", F32, 2), "'general.sampling.top_p' is not in (0, 1]"),
    "top-k": (value("general.sampling.top_k", I32, -1), "'general.sampling.top_k' is not a count"),
}


@pytest.mark.parametrize("case", VALUES)
def test_wrong_values(tmp_path, case):
    bad, message = VALUES[case]
    base = {name: content for name, content in GPT2.items() if f"tokenizer.ggml.{name}".encode() not in bad}
    result = run(write(tmp_path / "m.gguf", base, bad), "check")
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"error: {tmp_path}/m.gguf: {message}"), result.stderr


def test_vocabulary_size(tmp_path):
    path = write(tmp_path / "m.gguf", GPT2)
    assert succeed(path, "check", "", "--vocab-size=5") == ""
    result = run(path, "check", "", "--vocab-size=4")
    assert "'tokenizer.ggml.tokens' has 5 tokens, the model's embedding 4" in result.stderr.decode()


@pytest.mark.parametrize("model", [None, "none", "no_vocab"])
def test_without_tokenizer(tmp_path, model):
    assert succeed(write(tmp_path / "m.gguf", {"model": model}), "generation").startswith("bos -1 eos temperature 0.000")


def test_special_tokens(tmp_path):
    fields = {"tokens": ["a", "b", "ab", "<s>", "</s>", "<u>", "<|eot_id|>"],
              "token_type": [NORMAL] * 3 + [CONTROL, NORMAL, USER_DEFINED, NORMAL]}
    path = write(tmp_path / "m.gguf", GPT2, bos_token_id=3, add_bos_token=True, add_eos_token=True, **fields)
    assert tokens(path, "ab<u>a<s></s><|eot_id|>") == [2, 5, 0]
    assert tokens(path, "ab<u>a<s></s><|eot_id|>", "--allow-special") == [2, 5, 0, 3, 4, 6]
    assert tokens(path, "ab", "--add-special") == [3, 2, 4]
    assert succeed(path, "decode", "3 2 5 4 6", "--skip-special") == "ab<u>"
    assert succeed(path, "generation") == "bos 3 eos 4 6 temperature 0.000 top_p 1.000 top_k 0"


def test_ends(tmp_path):
    fields = {"tokens": ["a", "</s>", "<eot>", "<eom>", "<|im_end|>"], "token_type": None, "merges": []}
    path = write(tmp_path / "m.gguf", GPT2, eos_token_id=1, eot_token_id=2, eom_token_id=3, **fields)
    assert succeed(path, "generation").startswith("bos -1 eos 1 2 3 4 ")


@pytest.mark.parametrize("token", [5, 2**32 - 1])
def test_id_of_no_token(tmp_path, token):
    path = write(tmp_path / "m.gguf", GPT2, padding_token_id=token)
    succeed(path, "check", warning=f"'tokenizer.ggml.padding_token_id' is {token}, none of its 5 tokens; it is ignored")


def test_sampling(tmp_path):
    path = write(tmp_path / "m.gguf", GPT2, value("general.sampling.temp", F32, 0.5))
    assert succeed(path, "generation").endswith("temperature 0.500 top_p 1.000 top_k 50")
    path = write(tmp_path / "m.gguf", GPT2, value("general.sampling.top_p", F32, 0.25),
                 value("general.sampling.top_k", I32, 7))
    assert succeed(path, "generation").endswith("temperature 1.000 top_p 0.250 top_k 7")


def test_chat_template(tmp_path):
    path = write(tmp_path / "m.gguf", GPT2, template("{{ bos_token }}[{{ messages[0].content }}]{{ eos_token }}"),
                 array("tokenizer.chat_templates", STRING, ["rag"]), bos_token_id=3)
    assert succeed(path, "chat", '[{"role": "user", "content": "hi"}]') == "<s>[hi]</s>"


def test_chat_template_of_a_converter(tmp_path):
    """It is replaced where the model can be the one whose template is known."""
    foreign = template("{{ 'Human: ' + messages[0].content + 'BITNETAssistant: ' + eos_token }}")
    chat = '[{"role": "user", "content": " hi "}, {"role": "assistant", "content": "ho"}]'
    fields = {"tokens": ["<|eot_id|>", "<s>", "</s>"], "token_type": [CONTROL] * 3, "merges": [], "eos_token_id": 2}
    path = write(tmp_path / "m.gguf", GPT2, foreign, **fields, bos_token_id=1)
    warning = "'tokenizer.chat_template' is the converter's, which no model was trained with"
    assert succeed(path, "chat", chat, "--generation-prompt", warning=warning) == (
        "<s>User: hi<|eot_id|>Assistant: ho<|eot_id|>Assistant: ")
    assert succeed(path, "chat", chat, warning=warning) == "<s>User: hi<|eot_id|>Assistant: ho<|eot_id|>"

    fields["tokens"][0] = "<eot>"
    path = write(tmp_path / "m.gguf", GPT2, foreign, **fields)
    assert succeed(path, "chat", chat) == "Human:  hi BITNETAssistant: </s>"


UNSAID = "'tokenizer.ggml.pre' does not say how text is cut into words"


@pytest.mark.parametrize("pre", [None, "default"])
def test_unnamed_pre_tokenizer(tmp_path, pre):
    fields = {"tokens": ["-", "a", "-a"], "token_type": [NORMAL] * 3, "merges": ["- a"], "pre": pre, "eos_token_id": None}
    path = write(tmp_path / "m.gguf", GPT2, **fields)
    assert tokens(path, "-a", warning=UNSAID) == [0, 1]
    # Of LLaMA 3's vocabulary it is known.
    fields["tokens"] += [str(i) for i in range(128000 - 3)] + ["<|begin_of_text|>"]
    fields["token_type"] += [NORMAL] * (128000 - 3) + [CONTROL]
    path = write(tmp_path / "m.gguf", GPT2, **fields, bos_token_id=128000)
    assert tokens(path, "-a123", "--add-special") == [128000, 2, 126]


def test_sentencepiece(tmp_path):
    path = write(tmp_path / "m.gguf", LLAMA)
    space, a, ab, ba, aa = (ID[piece] for piece in ("\u2581", "a", "ab", "ba", "aa"))
    assert tokens(path, "aab") == [space, a, ab]
    assert tokens(path, "aaa") == [space, aa, a]
    assert tokens(path, "a\n\u2581", "--add-special") == [ID["<s>"], space, a, ID["<0x0A>"], space]
    assert tokens(path, "</s>") == [space] + [ID[f"<0x{byte:02X}>"] for byte in b"</s>"]
    assert succeed(path, "decode", f"{space} {ab}") == "ab"
    assert succeed(path, "generation").startswith("bos 1 eos 2 ")

    # Of one score the leftmost goes first, whatever the order of the pieces.
    scores = LLAMA["scores"][:]
    scores[ab] = scores[ba] = scores[aa] = 0.5
    path = write(tmp_path / "m.gguf", LLAMA, scores=scores)
    assert tokens(path, "aba") == [space, ab, a]
    assert tokens(path, "baab") == [space, ba, ab]

    path = write(tmp_path / "m.gguf", LLAMA, add_space_prefix=False)
    assert tokens(path, "ab") == [ab]
    assert succeed(path, "decode", f"{space} {ab}") == " ab"


def test_sentencepiece_without_scores(tmp_path):
    """Some converters write one score for all; ids are in the order of training."""
    path = write(tmp_path / "m.gguf", LLAMA, scores=[-1000.0] * len(PIECES))
    assert tokens(path, "aab") == [ID["\u2581"], ID["a"], ID["ab"]]
