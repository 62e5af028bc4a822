# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The bytes of .gguf files, right and wrong ones, from the format's definition."""

import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return string(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


def value(key, kind, content):
    return string(key) + struct.pack("<I", kind) + scalar(kind, content)


def array(key, kind, contents):
    return (string(key) + struct.pack("<IIQ", ARRAY, kind, len(contents))
            + b"".join(scalar(kind, content) for content in contents))


def tensor(name, shape=(2,), kind=0, offset=0):
    """`shape` is [out, in]; files list the innermost dimension first."""
    return (string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
            + struct.pack("<IQ", kind, offset))


def encode(values=(), tensors=(), data=b"", version=3, alignment=32, num_values=None, num_tensors=None):
    header = (b"GGUF" + struct.pack("<I", version)
              + struct.pack("<QQ", len(tensors) if num_tensors is None else num_tensors,
                            len(values) if num_values is None else num_values)
              + b"".join(values) + b"".join(tensors))
    return header + b"\0" * (-len(header) % alignment) + data
