#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Public-domain English from two Debian packages, decoded without R.

    python tests/models/corpus.py persuasion OUT.txt     the held-out novel
    python tests/models/corpus.py emma OUT.txt           any other text, likewise
    python tests/models/corpus.py --list

Needs `apt-get install r-cran-janeaustenr bible-kjv-text`; no third-party Python.

Texts are ASCII or UTF-8 exactly as the packages hold them: Austen as the lines
of the R character vector, each ended by one newline (hard-wrapped prose, blank
lines between paragraphs); the Bible as one verse a line, references removed.
"""

import argparse
import gzip
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

AUSTEN = {
    "emma": "emma",
    "mansfield-park": "mansfieldpark",
    "northanger-abbey": "northangerabbey",
    "persuasion": "persuasion",
    "pride-and-prejudice": "prideprejudice",
    "sense-and-sensibility": "sensesensibility",
}
HELD_OUT = "persuasion"
AUSTEN_DATA = Path("/usr/lib/R/site-library/janeaustenr/data/Rdata")
BIBLE_DATA = Path("/usr/lib/bible.data")


class RReader:
    """The part of R's serialisation (XDR, versions 2 and 3) that lists and
    character vectors need."""

    NILVALUE, NAMESPACE_REF, REF = 254, 249, 255
    SYM, PAIRLIST, CHAR, LGL, INT, STR, VEC = 1, 2, 9, 10, 13, 16, 19
    NA_LENGTH = -1

    def __init__(self, data):
        self.data, self.pos, self.refs = data, 0, []
        if data[:2] != b"X\n":
            raise ValueError("not R's XDR serialisation")
        self.pos = 2
        version, _, _ = self.ints(3)
        if version not in (2, 3):
            raise ValueError(f"R serialisation version {version} is unknown")
        if version == 3:
            self.take(self.ints(1)[0])  # name of the native encoding

    def take(self, count):
        self.pos += count
        return self.data[self.pos - count : self.pos]

    def ints(self, count):
        return struct.unpack(f">{count}i", self.take(4 * count))

    def item(self):
        flags = self.ints(1)[0]
        kind, has_attributes, has_tag = flags & 0xFF, flags & 0x200, flags & 0x400
        if kind == self.NILVALUE:
            return None
        if kind == self.REF:
            return self.refs[(flags >> 8) - 1]
        if kind == self.SYM:
            self.refs.append(self.item())
            return self.refs[-1]
        if kind == self.CHAR:
            length = self.ints(1)[0]
            return None if length == self.NA_LENGTH else self.take(length).decode()
        if kind == self.PAIRLIST:
            if has_attributes:
                self.item()
            tag = self.item() if has_tag else None
            head = self.item()
            rest = self.item() or {}
            return {tag: head, **rest}
        if kind in (self.LGL, self.INT):
            value = list(self.ints(self.ints(1)[0]))
        elif kind in (self.STR, self.VEC):
            value = [self.item() for _ in range(self.ints(1)[0])]
        else:
            raise ValueError(f"R object type {kind} is not read here")
        names = (self.item() or {}).get("names") if has_attributes else None
        return dict(zip(names, value)) if names else value


def austen(title):
    """One novel: lines joined by newlines, with a final newline."""
    index_path = AUSTEN_DATA.with_suffix(".rdx")
    if not index_path.exists():
        raise FileNotFoundError(f"{index_path}: apt-get install r-cran-janeaustenr")
    index = RReader(gzip.decompress(index_path.read_bytes())).item()
    offset, length = index["variables"][AUSTEN[title]]
    record = AUSTEN_DATA.with_suffix(".rdb").read_bytes()[offset : offset + length]
    # A record is the raw length as 4 bytes, big end first, then a zlib stream.
    lines = RReader(zlib.decompress(record[4:])).item()
    return "\n".join(lines) + "\n"


def bible():
    """The King James Version: a verse a line, a blank line between chapters."""
    if not BIBLE_DATA.exists():
        raise FileNotFoundError(f"{BIBLE_DATA}: apt-get install bible-kjv-text")
    data = BIBLE_DATA.read_bytes()
    # After the header and its table of windows comes one compress(1) stream.
    stream = data[data.index(b"\x1f\x9d") :]
    text = subprocess.run(["gzip", "-dc"], input=stream, stdout=subprocess.PIPE, check=True).stdout
    lines, last_chapter = [], None
    for line in text.decode("latin-1").splitlines()[1:]:
        match = re.match(r"(\w+?\d+):\d+ (.*)", line)
        if not match:
            raise ValueError(f"{BIBLE_DATA}: not a verse: {line!r}")
        if last_chapter not in (None, match[1]):
            lines.append("")
        last_chapter = match[1]
        lines.append(match[2].strip())
    return "\n".join(lines) + "\n"


def text(title):
    return bible() if title == "bible" else austen(title)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the titles")
    parser.add_argument("title", nargs="?", choices=[*AUSTEN, "bible"])
    parser.add_argument("out", nargs="?", help="file to write (default: stdout)")
    args = parser.parse_args()
    if args.list:
        print("\n".join([*AUSTEN, "bible"]))
        return 0
    if not args.title:
        parser.error("a title is needed")
    try:
        data = text(args.title).encode()
    except (OSError, ValueError) as error:
        print(f"corpus.py: {error}", file=sys.stderr)
        return 1
    if args.out:
        Path(args.out).write_bytes(data)
    else:
        sys.stdout.buffer.write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
