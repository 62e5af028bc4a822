# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Data flows one way (docs/architecture.md): who may include whom."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#include "((?:frontends|dialect|compiler|runtime|tests)/[^"]*)"')

# The folders of this project that a folder may include; the longest prefix of
# a file decides.
MAY_INCLUDE = {
    "dialect": ["dialect"],
    "frontends": ["frontends", "dialect", "runtime"],
    "runtime": ["runtime"],
    "compiler/Support": ["compiler/Support", "dialect"],
    "compiler/Target": ["compiler/Target", "dialect", "runtime/include"],
    "compiler/Passes": ["compiler/Passes", "compiler/Support", "compiler/Target", "dialect"],
    "compiler/Conversion": ["compiler/Conversion", "compiler/Support", "compiler/Target", "dialect"],
    "compiler/Emit": ["compiler/Emit", "compiler/Support", "compiler/Target", "runtime/include"],
    "compiler/JIT": ["compiler", "dialect", "runtime"],
    # What looks at whole models imports them.
    "compiler/Inspect": ["compiler/Inspect", "compiler/Support", "frontends", "dialect"],
    "compiler/Reference": ["compiler/Reference", "compiler/Support", "frontends", "dialect", "runtime/include"],
    # What measures runs kernels as an executable does.
    "compiler/Tune": ["compiler", "dialect", "runtime"],
    "compiler/Pipeline": ["compiler", "dialect"],
    "compiler/tools": ["compiler", "frontends", "dialect", "runtime/include"],
}


def sources():
    for folder in ("dialect", "frontends", "runtime", "compiler"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cpp"):
                yield path.relative_to(ROOT).as_posix()


def rule_of(file):
    owners = [folder for folder in MAY_INCLUDE if file.startswith(folder + "/")]
    return max(owners, key=len, default=None)


@pytest.mark.parametrize("file", list(sources()))
def test_includes(file):
    rule = rule_of(file)
    assert rule, f"{file}: a new folder needs a row in MAY_INCLUDE and in docs/architecture.md"
    for number, line in enumerate((ROOT / file).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match and not any(match[1].startswith(allowed + "/") for allowed in MAY_INCLUDE[rule]):
            pytest.fail(f"{file}:{number}: {rule} may not include {match[1]}", pytrace=False)


def test_runtime_knows_no_llvm():
    for path in (ROOT / "runtime").rglob("*"):
        if path.suffix in (".h", ".cpp"):
            assert not re.search(r'#include [<"](llvm|mlir)/', path.read_text()), path


def test_every_file_has_its_licence():
    for file in sources():
        assert "SPDX-License-Identifier" in (ROOT / file).read_text()[:200], file
