# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A graph compiled for each ISA level that this CPU runs."""

import os
import subprocess
from pathlib import Path

import numpy as np

TERCET = Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")


def run_at_levels(model, inputs, output, directory):
    """The bytes of `output` for `inputs` (arrays by name), by level; levels that the CPU lacks are left out."""
    arguments = []
    for name, array in inputs.items():
        np.save(directory / f"{name}.npy", array)
        arguments += ["--input", f"{name}={directory}/{name}.npy"]
    results = {}
    for level in LEVELS:
        program, result = directory / level, directory / f"{level}.npy"
        subprocess.run([TERCET, "compile", model, f"--target={level}", "-o", program], check=True, timeout=300)
        done = subprocess.run([program, *arguments, "--output", f"{output}={result}"], capture_output=True, text=True)
        if "this CPU has" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        results[level] = np.load(result).tobytes()
    return results
