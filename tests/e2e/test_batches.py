# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A sequence has the same bits whoever shares its batches, however it is cut, and
whatever its slot held before. Through the C API, on the bundled model."""

import ctypes
import os
import pathlib
import random
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/models/austen"
TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
VOCAB = 2048
SEQUENCES = 5
LENGTH = 150  # of a sequence: three blocks of keys
BUILDS = {
    "native": [],
    "v2": ["--target=x86-64-v2"],
    "v3": ["--target=x86-64-v3"],
    "v4": ["--target=x86-64-v4"],
    "vnni-t5": ["--target=x86-64-v4+avx512vnni+avx512vbmi", "--packing=t5"],
    "bf16": ["--kv=bf16"],
    "int8": ["--kv=int8"],
    "i8": ["--head=i8"],
    "q6": ["--head=q6"],
    "q4": ["--head=q4"],
}


class Options(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("threads", "context", "sequences")]


class Session:
    """tercet_session; tokens and logits are arrays."""

    def __init__(self, library, model, threads=1, sequences=SEQUENCES):
        self.library, self.handle = library, ctypes.c_void_p()
        self.call("tercet_session_create", model, ctypes.byref(Options(threads, 0, sequences)),
                  ctypes.byref(self.handle))

    def call(self, name, *arguments):
        if getattr(self.library, name)(*arguments):
            raise RuntimeError(self.library.tercet_last_error().decode())

    def eval_batch(self, sequences, tokens, rows):
        sequences, tokens, rows = (np.array(values, np.int32) for values in (sequences, tokens, rows))
        logits = np.empty((len(rows), VOCAB), np.float32)
        self.call("tercet_eval_batch", self.handle, sequences.ctypes, tokens.ctypes, ctypes.c_size_t(len(tokens)),
                  rows.ctypes, ctypes.c_size_t(len(rows)), logits.ctypes)
        return logits

    def copy(self, source, destination):
        self.call("tercet_copy", self.handle, source, destination)

    def save(self, sequence, path):
        self.call("tercet_save", self.handle, sequence, os.fsencode(path))

    def load(self, sequence, path):
        self.call("tercet_load", self.handle, sequence, os.fsencode(path))

    def truncate(self, sequence, length):
        self.call("tercet_truncate", self.handle, sequence, length)

    def close(self):
        self.library.tercet_session_destroy(self.handle)


def open_library(directory, *options):
    path = directory / "libausten.so"
    subprocess.run([TERCET, "compile", MODEL, "-o", path, "--emit=lib", *options], check=True)
    library, model = ctypes.CDLL(path), ctypes.c_void_p()
    library.tercet_last_error.restype = ctypes.c_char_p
    if library.tercet_open(ctypes.byref(model)):
        pytest.skip(library.tercet_last_error().decode())
    return library, model


def make_texts():
    return np.random.default_rng(7).integers(0, VOCAB, (SEQUENCES, LENGTH)).tolist()


@pytest.fixture(scope="module", params=BUILDS)
def build(request, tmp_path_factory):
    """The library, its model, and the logits of the sequences token by token."""
    library, model = open_library(tmp_path_factory.mktemp("library"), *BUILDS[request.param])
    texts = make_texts()
    session = Session(library, model, sequences=1)
    expected = []
    for text in texts:
        expected.append(np.concatenate([session.eval_batch([0], [token], [0]) for token in text]))
        session.truncate(0, 0)
    session.close()
    yield library, model, texts, expected
    library.tercet_close(model)


def bits(logits):
    return np.asarray(logits).view(np.uint32)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_composition(build, threads):
    """Texts take free slots, advance by prompts and single tokens in any order, fork, are
    cut back and leave. A third of the batches are longer than a step."""
    library, model, texts, expected = build
    session = Session(library, model, threads)
    choose = random.Random(threads)
    text_of, lengths, checked = [0] * SEQUENCES, [0] * SEQUENCES, 0
    for _ in range(40):
        for slot in range(SEQUENCES):
            event = choose.randrange(12)
            if event == 0 or lengths[slot] == LENGTH:
                text_of[slot], lengths[slot] = choose.randrange(SEQUENCES), 0
                session.truncate(slot, 0)
            elif event == 1:
                source = choose.randrange(SEQUENCES)
                text_of[slot], lengths[slot] = text_of[source], lengths[source]
                session.copy(source, slot)
            elif event == 2:
                lengths[slot] = choose.randint(0, lengths[slot])
                session.truncate(slot, lengths[slot])
        tokens, slots, rows, wanted = [], [], [], []
        for _ in range(choose.randint(1, 9)):
            slot = choose.randrange(SEQUENCES)
            for _ in range(min(choose.choice([1, 1, 2, 5, 17, 64, 100]), LENGTH - lengths[slot])):
                if choose.randrange(3) == 0:
                    rows.append(len(tokens))
                    wanted.append(expected[text_of[slot]][lengths[slot]])
                tokens.append(texts[text_of[slot]][lengths[slot]])
                slots.append(slot)
                lengths[slot] += 1
        got = session.eval_batch(slots, tokens, rows)
        checked += len(rows)
        if rows:
            assert (bits(got) == bits(wanted)).all()
    session.close()
    assert checked > 500


def test_any_cut(build):
    """A prompt in chunks of one length, and after a beginning of any length."""
    library, model, texts, expected = build
    session = Session(library, model, 2, sequences=1)
    for chunk in (2, 3, 4, 5, 7, 11, 13, 16, 31, 63, 65, 100, 127, 149):
        session.truncate(0, 0)
        for start in range(0, LENGTH, chunk):
            part = texts[0][start:start + chunk]
            got = session.eval_batch([0] * len(part), part, range(len(part)))
            assert (bits(got) == bits(expected[0][start:start + chunk])).all(), chunk
    for start in range(LENGTH - 1, 0, -1):
        session.truncate(0, start)
        part = texts[0][start:]
        got = session.eval_batch([0] * len(part), part, [len(part) - 1])
        assert (bits(got) == bits(expected[0][-1:])).all(), start
    session.close()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_chunking_of_500_tokens(build, threads):
    library, model, _, _ = build
    text = np.random.default_rng(8).integers(0, VOCAB, 500).tolist()

    def evaluate(threads, lengths):
        session = Session(library, model, threads, sequences=1)
        logits, start = [], 0
        for length in lengths:
            part = text[start:start + length]
            logits.append(session.eval_batch([0] * len(part), part, range(len(part))))
            start += length
        session.close()
        return bits(np.concatenate(logits))

    one_by_one = evaluate(1, [1] * 500)
    for lengths in ([7] * 72, [64] * 8, [100] * 5, [128] * 4, [1, 499], [499, 1], [500]):
        assert (evaluate(threads, lengths) == one_by_one).all(), lengths


@pytest.mark.parametrize("kv", ["f32", "bf16", "int8"])
def test_saved_by_one_level_and_loaded_by_another(tmp_path, kv):
    text, other = make_texts()[0], "f32" if kv == "int8" else "int8"
    logits, sessions = {}, {}
    for name, options in (("saves", ["--target=x86-64-v3", f"--kv={kv}"]), ("loads", [f"--kv={kv}"]),
                          ("refuses", [f"--kv={other}"])):
        directory = tmp_path / name
        directory.mkdir()
        sessions[name] = Session(*open_library(directory, *options), sequences=2)
    path = tmp_path / "sequence"
    sessions["saves"].eval_batch([0] * 100, text[:100], [])
    sessions["saves"].save(0, path)
    sessions["loads"].load(1, path)
    for name, slot in (("saves", 0), ("loads", 1)):
        logits[name] = sessions[name].eval_batch([slot] * 50, text[100:], range(50))
    assert (bits(logits["saves"]) == bits(logits["loads"])).all()
    with pytest.raises(RuntimeError, match=f"holds {kv} keys and values and this program has {other} ones"):
        sessions["refuses"].load(0, path)
