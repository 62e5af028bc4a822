# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Token ids and texts against Hugging Face tokenizers, id for id.

The tokenizers are trained here, on the nasty text itself: every construct of
tokenizer.json that we accept, in the combinations that models use.
"""

import json
import os
import pathlib
import random
import subprocess

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models,
                        normalizers, pre_tokenizers, processors, trainers)

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("TERCET_BIN_DIR", ROOT / "build" / "bin"),
                    "tercet-test-tokenize")

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+|"
          r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

NASTY = [
    "", " ", "  ", "\n", "\r\n", "a", " a", "a ", "Hello, world!",
    "It's we'll THEY'RE I'd 'S 'Ll 'ſ don''t o'clock",
    "  leading\n\n\n   runs \t\t of \r\n\r\n  white   \n space   ",
    "x\u00a0y\u3000z\u180ew\u2028v\u2029u\u0085t\x0bs\x0cr\x1cq\u200bp\ufeffo",
    "1 12 123 1234 12345678901234567890 3.14159 1,000,000 ½ ⅷ ٣٤٥ 一二三 ²³",
    "naïve café Ünïcödé e\u0301 a\u0308\u0323 ﬁ ﬆ ẞß İıſK",
    "Привет мир, γειά σου Κόσμε, שלום עולם, مرحبا بالعالم",
    "你好，世界。こんにちは世界！안녕하세요 세계 สวัสดีชาวโลก नमस्ते दुनिया",
    "😀😃 👨‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ 🏳️‍🌈 \U0001f9d1\u200d\U0001f680",
    "def f(x):\n\treturn x**2  # comment\n\n\nif (a && b) { c[0] = d->e; }\n",
    "!!!???...---___***///\\\\\\ ##@@ $$ %^&*() <|x|> <| |> ||| \n\n//",
    "https://example.org/a?b=c&d=%20e#f user@example.org",
    "\x00\x01\x7f\u0080\u009f\u00ad\uffff\U0010ffff\ue000\u0378",
    "a" * 300, " " * 300, "\n" * 50 + "x", "ab" * 200, "あ" * 100, "  \n" * 40,
    "<s>hello</s> <|sp|> <|special|> <|special|>> <|spec <word>a a<word> <word>",
    "x   <left>   <left>y <right>   z <right>\n\n<both> \t <both>  <<both>>",
    "new york newyork New York NEW new york city knew york",
]


def alphabet():
    """Random text from character classes that the patterns tell apart."""
    rng = random.Random(7)
    pool = (list("abcdefgXYZ'srtdlv  \t\n\r0123456789.,!?-_/<|>") +
            list("\u00a0\u2003\u3000éßñİſÅАяΩ中文日本語한글ไทยहिन्दी٣½Ⅷ²😀\u200d\ufe0f\u0301€"))
    return ["".join(rng.choices(pool, k=rng.randrange(1, 400)))
            for _ in range(60)]


TEXTS = NASTY + alphabet()
INVALID = [
    b"\xff", b"a\x80b", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x",
    b"\xf0\x9f\x98", b"\xf0\x9f\x98\xf0\x9f\x98\x80", b"\xed\xa0\x80",
    b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe0\x80\xaf",
    bytes(range(256)), bytes(range(255, -1, -1)),
    random.Random(3).randbytes(5000),
]


def train(pre_tokenizer, vocab_size=600, ignore_merges=False, added=(),
          special=("<s>", "</s>"), post_processor=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    tokenizer.add_tokens(list(added))
    if post_processor:
        tokenizer.post_processor = post_processor
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior, invert=invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(prefix=False, regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


ADDED = [
    AddedToken("<left>", lstrip=True, normalized=False),
    AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
    AddedToken("<word>", single_word=True, normalized=False),
    AddedToken("new york", normalized=True),
    AddedToken("york city", normalized=False),
    AddedToken("<|sp", normalized=False),
    AddedToken("<|special|>", special=True, normalized=False),
    AddedToken("<|special|>>", special=True, normalized=False),
    AddedToken("café", normalized=False),
]
BOS = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
FALCON = pre_tokenizers.Sequence([
    pre_tokenizers.Punctuation("contiguous"), byte_level(),
    pre_tokenizers.Digits(individual_digits=False),
    pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])

TOKENIZERS = {
    "llama3": lambda: train(split(LLAMA3), ignore_merges=True),
    "llama3-merges": lambda: train(split(LLAMA3)),
    "llama3-bos": lambda: train(split(LLAMA3), ignore_merges=True, added=ADDED,
                                post_processor=processors.Sequence(
                                    [processors.ByteLevel(trim_offsets=False), BOS])),
    "qwen": lambda: train(split(QWEN)),
    "cl100k": lambda: train(split(CL100K)),
    "o200k": lambda: train(split(O200K)),
    "gpt2": lambda: train(byte_level(), added=ADDED),
    "gpt2-prefix": lambda: train(byte_level(prefix=True), added=ADDED),
    "bytes": lambda: train(byte_level(regex=False), vocab_size=900),
    "falcon": lambda: train(FALCON, added=ADDED),
    "digits": lambda: train(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level()])),
    "words": lambda: train(split(r"\w+|[^\w\s]+", "removed", invert=True)),
    "missing-bytes": lambda: drop_bytes(train(split(LLAMA3))),
}
for behavior in ("removed", "merged_with_previous", "merged_with_next",
                 "contiguous"):
    for invert in (False, True):
        TOKENIZERS[f"{behavior}-{invert}"] = (
            lambda b=behavior, i=invert: train(split(r"[ ,]|\n", b, i)))


def sentencepiece(old_style, scheme="always"):
    """What LlamaConverter makes of a sentencepiece model."""
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"] + bytes_,
        limit_alphabet=60, show_progress=False)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True,
                                     fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme=scheme, split=not old_style)
    if old_style:
        tokenizer.normalizer = normalizers.Sequence([
            normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator([t for t in TEXTS if len(t) < 200], trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:3]
    if old_style:
        state["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    tokenizer.add_tokens([a for a in ADDED if not a.normalized])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


TOKENIZERS["llama2"] = lambda: sentencepiece(True)
for scheme in ("always", "first", "never"):
    TOKENIZERS[f"metaspace-{scheme}"] = (
        lambda s=scheme: sentencepiece(False, s))


def drop_bytes(tokenizer):
    """Without some single bytes, as a vocabulary trained without alphabet."""
    state = json.loads(tokenizer.to_str())
    state["model"]["merges"] = [
        m for m in state["model"]["merges"] if not set("xyzÃ") & set("".join(m))]
    for token in "xyzÃ":
        del state["model"]["vocab"][token]
    return Tokenizer.from_str(json.dumps(state))


def run(directory, mode, data, *flags):
    result = subprocess.run(
        [TOOL, directory, f"--mode={mode}", *flags], input=data,
        capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def encode(directory, data, *flags):
    return [int(i) for i in run(directory, "encode", data, *flags).split()]


@pytest.fixture(scope="module", params=list(TOKENIZERS) + sorted(
    str(p.parent.relative_to(ROOT))
    for p in (ROOT / "tests" / "models").glob("*/tokenizer.json")))
def case(request, tmp_path_factory):
    if request.param in TOKENIZERS:
        directory = tmp_path_factory.mktemp("tokenizer")
        TOKENIZERS[request.param]().save(str(directory / "tokenizer.json"))
    else:
        directory = ROOT / request.param
    return directory, Tokenizer.from_file(str(directory / "tokenizer.json"))


# Process starts would dominate: texts travel together, and alone only once
# they disagree.
SEPARATOR = "\n\x02\n"


def assert_same_tokens(directory, oracle, data, *flags):
    text = data.decode(errors="replace")
    expected = oracle.encode(
        text, add_special_tokens="--add-special" in flags).ids
    got = encode(directory, data, *flags)
    if got != expected:
        i = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b),
                 min(len(got), len(expected)))
        show = lambda ids: [oracle.id_to_token(t) for t in ids[i:i + 5]]
        pytest.fail(f"token {i} after {oracle.decode(expected[max(0, i - 5):i])!r}:"
                    f" {show(got)}, expected {show(expected)}")


@pytest.mark.parametrize("allow", [False, True])
def test_encode(case, allow):
    directory, oracle = case
    oracle.encode_special_tokens = not allow
    flags = ["--allow-special"] if allow else []
    assert_same_tokens(directory, oracle, SEPARATOR.join(TEXTS).encode(), *flags)
    for text in NASTY[:24]:
        assert_same_tokens(directory, oracle, text.encode(), *flags)


def test_encode_invalid(case):
    directory, oracle = case
    oracle.encode_special_tokens = True
    for data in INVALID:
        assert_same_tokens(directory, oracle, data)


def test_special_tokens_around(case):
    directory, oracle = case
    oracle.encode_special_tokens = True
    assert_same_tokens(directory, oracle, b"some text", "--add-special")
    assert_same_tokens(directory, oracle, b"", "--add-special")


@pytest.mark.parametrize("skip", [False, True])
def test_decode(case, skip):
    directory, oracle = case
    rng = random.Random(11)
    size = oracle.get_vocab_size()
    oracle.encode_special_tokens = False
    streams = [oracle.encode(text).ids for text in TEXTS]
    # Random ids cut characters apart. Then ByteFallback repairs bytes by a rule
    # of its own, which no other decoder has.
    if "ByteFallback" not in oracle.to_str():
        streams += [rng.choices(range(size), k=200) for _ in range(3)]
    flags = ["--skip-special"] if skip else []
    whole = [i for stream in streams for i in stream]
    for ids in [whole] + streams[-3:]:
        got = run(directory, "decode", " ".join(map(str, ids)).encode(), *flags)
        assert got.decode() == oracle.decode(ids, skip_special_tokens=skip)


def test_every_character(case):
    """Classes of characters, as far as both know the same Unicode: code points
    assigned after Unicode 14 are left out."""
    import unicodedata
    directory, oracle = case
    old = unicodedata
    characters = [chr(c) for c in range(0x110000)
                  if not 0xD800 <= c < 0xE000
                  and old.category(chr(c)) not in ("Cn", "Co")]
    rng = random.Random(5)
    sample = rng.sample(characters, 4000)
    text = "".join(f"{c}a{c}{c}1 {c}\n" for c in sample)
    oracle.encode_special_tokens = True
    assert_same_tokens(directory, oracle, text.encode())


@pytest.mark.parametrize("unit", ["a", " ", "\n", "1", "!", "é", "<", " a"])
def test_long_runs(unit, tmp_path):
    """Ten megabytes of one thing: a result within seconds."""
    train(split(LLAMA3), ignore_merges=True,
          added=ADDED).save(str(tmp_path / "tokenizer.json"))
    data = (unit * (10_000_000 // len(unit.encode()))).encode()
    ids = encode(tmp_path, data)
    assert ids
    assert run(tmp_path, "decode", " ".join(map(str, ids)).encode()) == data
