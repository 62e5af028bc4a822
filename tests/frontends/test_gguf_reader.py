# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every way in which a .gguf file can be wrong, and the one line that says so."""

import os
import random
import struct
import subprocess

import pytest

from gguf_file import ARRAY, F32, I32, STRING, U16, U32, array, encode, string, tensor, value

TOOL = os.path.join(os.environ["TERCET_BIN_DIR"], "tercet-import")


def run(model):
    return subprocess.run([TOOL, model], capture_output=True, timeout=60)


def error(model):
    result = run(model)
    message = result.stderr.decode()
    assert result.returncode == 1, result
    assert not result.stdout
    assert message.startswith("error: ") and message.count("\n") == 1, message
    return message


READ = "'general.architecture' is missing"  # what is said once a file is read

FILES = {
    "empty": (b"", "is empty"),
    "short": (b"GGUF\3", "ends inside its header, which continues at byte 4"),
    "lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "magic": (b"GGML" + encode()[4:], "does not start with 'GGUF'"),
    "version-1": (encode(version=1), "is of GGUF version 1; convert the model again"),
    "version-4": (encode(version=4), "is of GGUF version 4; only 2 and 3 are supported"),
    "big-endian": (encode(version=3 << 24), "is big-endian"),
    "values-beyond-file": (encode(num_values=2**63), "ends inside its header"),
    "tensors-beyond-file": (encode(num_tensors=2**63), "ends inside its header"),
    "key-beyond-file": (encode([struct.pack("<Q", 2**64 - 1)]), "ends inside its header"),
    "string-beyond-file": (encode([string("k") + struct.pack("<IQ", STRING, 2**40)]), "ends inside its header"),
    "array-beyond-file": (encode([string("k") + struct.pack("<IIQ", ARRAY, F32, 2**62)]), "ends inside its header"),
    "strings-beyond-file": (encode([string("k") + struct.pack("<IIQ", ARRAY, STRING, 2**62)]),
                            "ends inside its header"),
    "value-type": (encode([string("k") + struct.pack("<I", 13)]), "key 'k': has the unknown type 13"),
    "element-type": (encode([string("k") + struct.pack("<IIQ", ARRAY, 77, 0)]), "key 'k': has the unknown type 77"),
    "array-of-arrays": (encode([string("k") + struct.pack("<IIQ", ARRAY, ARRAY, 0)]),
                        "key 'k': is an array of arrays"),
    "duplicate-key": (encode([value("k", U32, 1), array("k", U32, [])]), "key 'k': appears twice"),
    "alignment-type": (encode([value("general.alignment", STRING, "32")]), "must be a power of two, not '32'"),
    "alignment-zero": (encode([value("general.alignment", U32, 0)]), "must be a power of two, not 0"),
    "alignment-odd": (encode([value("general.alignment", U32, 24)]), "must be a power of two, not 24"),
    "alignment-negative": (encode([value("general.alignment", I32, -32)]), "must be a power of two, not -32"),
    "alignment-array": (encode([array("general.alignment", U32, [32, 32])]), "not an array of 2 values"),
    "alignment-float": (encode([value("general.alignment", F32, 0.5)]), "must be a power of two, not 0.5"),
    "rank": (encode([], [tensor("t", [1] * 5)]), "tensor 't': has 5 dimensions, more than 4"),
    "type": (encode([], [tensor("t", kind=335)]), "tensor 't': its ggml type 335 (IQ2_BN_R4) is not supported; convert"),
    "type-was-removed": (encode([], [tensor("t", kind=4)]), "tensor 't': its ggml type 4 is not supported"),
    "blocks": (encode([], [tensor("t", [256, 48], kind=8)]),
               "tensor 't': has rows of 48 elements, no whole number of the 32 of a block of Q8_0"),
    "shape-overflow": (encode([], [tensor("t", [2**32, 2**32])]), "tensor 't': its size overflows 64 bits"),
    "shape-overflow-zero": (encode([], [tensor("t", [2**40, 2**40, 0])]), "its size overflows 64 bits"),
    "shape-negative": (encode([], [tensor("t", [2**63])]), "its size overflows 64 bits"),
    "rows-overflow": (encode([], [tensor("t", [2**62, 64], kind=134)]), "its size overflows 64 bits"),
    "tail-overflow": (encode([], [tensor("t", [2**61 - 1, 16], kind=36)]), "its size overflows 64 bits"),
    "offset-unaligned": (encode([], [tensor("t", offset=8)], bytes(64)),
                         "tensor 't': offset 8 is not a multiple of the file's alignment 32"),
    "data-beyond-file": (encode([], [tensor("t", [3, 3])], bytes(35)),
                         "tensor 't': F32 of shape [3, 3] needs 36 bytes from byte 0 of the data on, which has 35"),
    "row-scales-beyond-file": (encode([], [tensor("t", [2, 64], kind=135)], bytes(39)), "needs 40 bytes"),
    "tail-beyond-file": (encode([], [tensor("t", [2, 64], kind=36)], bytes(63)), "needs 64 bytes"),
    "offset-beyond-file": (encode([], [tensor("t", offset=2**64 - 32)], bytes(64)), "from byte 18446744073709551584"),
    "no-data": (encode([], [tensor("t", [0])])[:-1], "ends inside its header"),
    "duplicate-tensor": (encode([], [tensor("t"), tensor("t", offset=32)], bytes(64)), "tensor 't' appears twice"),
    "overlap": (encode([], [tensor("b", [9], offset=32), tensor("a", [9])], bytes(96)),
                "tensor 'b' starts at byte 32 of the data, but 'a' ends at 36: they overlap"),
    "second-part": (encode([value("split.no", U16, 1), value("split.count", U16, 2)]),
                    "'split.no' is 1 where part 0 of a model was expected"),
    "first-part-renamed": (encode([value("split.no", U16, 0), value("split.count", U16, 2)]),
                           "its name must end in -00001-of-00002.gguf"),
    "split-count": (encode([value("split.count", STRING, "2")]), "'split.count' must be a number of files, not '2'"),
}


@pytest.mark.parametrize("name", FILES)
def test_file(tmp_path, name):
    contents, expected = FILES[name]
    (tmp_path / "model.gguf").write_bytes(contents)
    message = error(tmp_path / "model.gguf")
    assert expected in message and "model.gguf: " in message


GOOD = {
    "nothing": encode(),
    "version-2": encode(version=2),
    "alignment": encode([value("general.alignment", U32, 8)], [tensor("a", [1]), tensor("b", [1], offset=8)],
                        bytes(12), alignment=8),
    "any-order-and-holes": encode([], [tensor("b", [2, 64], 36, offset=64), tensor("a", [9])], bytes(128)),
    "nothing-in-tensors": encode([], [tensor("a", [0, 3]), tensor("b", [0, 3])], bytes(1)),
    "every-kind": encode([value(str(kind), kind, content)
                          for kind, content in enumerate([1, -1, 1, -1, 1, -1, 0.5, True, "s"])]
                         + [array("strings", STRING, ["", "a", b"\xff"]), array("floats", F32, [0.5])],
                         [tensor("a", [9]), tensor("b", [2, 64], 135, offset=64)], bytes(128)),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_file(tmp_path, name):
    (tmp_path / "model.gguf").write_bytes(GOOD[name])
    assert READ in error(tmp_path / "model.gguf")


def parts(directory, count=3, tensors=3, **changes):
    """A split model, one tensor a part; `changes` replaces parts by name."""
    for part in range(count):
        values = [value("split.no", U16, part), value("split.count", U16, count)]
        if part == 0:
            values.append(value("split.tensors.count", I32, tensors))
        contents = encode(values, [tensor(changes.get(f"name{part}", f"t{part}"))], bytes(8))
        (directory / f"m-{part + 1:05}-of-{count:05}.gguf").write_bytes(contents)
    return directory / f"m-00001-of-{count:05}.gguf"


def test_parts(tmp_path):
    first = parts(tmp_path)
    assert READ in error(first)
    second = tmp_path / "m-00002-of-00003.gguf"
    assert "00002-of-00003.gguf: 'split.no' is 1 where part 0" in error(second)
    second.rename(tmp_path / "away")
    assert "00002-of-00003.gguf: cannot open: No such file" in error(first)
    second.write_bytes((tmp_path / "m-00003-of-00003.gguf").read_bytes())
    assert "00002-of-00003.gguf: 'split.no' is 2 where part 1" in error(first)
    assert "'split.tensors.count' is 4, but all parts hold 3" in error(parts(tmp_path, tensors=4))
    assert "00003-of-00003.gguf: tensor 't0' appears twice, first in" in error(parts(tmp_path, name2="t0"))


def test_spoiled_headers_never_crash(tmp_path):
    """Random edits and cuts; what is still valid may be read."""
    rng = random.Random(1)
    path = tmp_path / "model.gguf"
    for attempt in range(100):
        spoiled = bytearray(rng.choice(list(GOOD.values())))
        for _ in range(rng.randint(1, 4)):
            spoiled[rng.randrange(len(spoiled))] = rng.choice(b"\0\1\2\3\x08\x09\x0a\x40\x7f\x80\xff")
        path.write_bytes(spoiled[:rng.randint(1, len(spoiled))] if attempt % 2 else spoiled)
        assert run(path).returncode in (0, 1)
