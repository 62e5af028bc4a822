#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes docs/performance.md and its plot: executables of one model, and any engine
that takes llama-bench's flags, measured in turns.

    make_2b_checkpoint.py /tmp/model && performance.py /tmp/model --out docs
    performance.py /tmp/model --peer 'NAME=llama-bench -m model.gguf'

Figures are medians of the rounds, with the least and the most beside them; ratios to
peers are those of compare.py.
"""

import argparse
import datetime
import json
import os
import shlex
import statistics
import tempfile
from pathlib import Path

import compare
from compare import run

ROOT = Path(__file__).resolve().parents[2]
THREADS = (1, 2)
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 470, 30, 340  # of the plot's frame
COLOURS = ["#4477aa", "#cc3311", "#228833", "#ee7733", "#aa3377", "#009988", "#bbbbbb", "#332288"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tercet", type=Path, default=ROOT / "build/bin/tercet")
    parser.add_argument("--variant", action="append", default=[], metavar="OPTIONS",
                        help="options of `tercet compile`, e.g. '--packing=i2 --head=q6'; may be repeated")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND",
                        help="an engine that takes llama-bench's -p, -n, -t, -r and -o json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--out", type=Path, help="directory for performance.md and performance.svg")
    arguments = parser.parse_args()
    arguments.threads = THREADS
    return arguments


class Variant(compare.Program):
    """The model compiled with some options."""

    def __init__(self, options, arguments, directory):
        program = directory / f"program{abs(hash(options))}"
        run([arguments.tercet, "compile", arguments.model, "-o", program, *shlex.split(options)])
        super().__init__(program, options or "default")
        self.info = json.loads(run([program, "--info"]))
        config = json.loads((arguments.model / "config.json").read_text())
        self.head_weights = config["vocab_size"] * config["hidden_size"]


def cell(values):
    """Median (least-most)."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def write_table(contenders, samples, arguments):
    lines = ["| | " + " | ".join(f"{phase} {threads}T" for phase in ("prefill", "decode") for threads in THREADS) + " |",
             "|---" * 5 + "|"]
    for name in contenders:
        cells = []
        for phase in ("prefill", "decode"):
            for threads in THREADS:
                values = [sample[name][phase, threads] for sample in samples]
                text = cell([rate for rate, _ in values])
                fractions = [fraction for _, fraction in values if fraction is not None]
                if fractions:
                    text += f", {100 * statistics.median(fractions):.0f} %"
                cells.append(text)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def write_ratios(variants, peers, samples):
    lines = []
    for peer in peers:
        lines += ["", f"Speed beside {peer.name}, tokens/s of ours / theirs (95 % confidence):", "",
                  "| | " + " | ".join(f"{phase} {threads}T" for phase in ("prefill", "decode") for threads in THREADS) + " |",
                  "|---" * 5 + "|"]
        for variant in variants:
            cells = []
            for phase in ("prefill", "decode"):
                for threads in THREADS:
                    key = phase, threads
                    cells.append("{:.2f} ({:.2f}-{:.2f})".format(
                        *compare.interval(compare.ratios(samples, variant.name, peer.name, key))))
            lines.append(f"| `{variant.name}` | " + " | ".join(cells) + " |")
    return lines


def draw_roofline(variants, samples):
    """GMAC/s over MACs per byte, both logarithmic, for one thread: the slope is
    the pure read, the ceiling the dot-product peak, both of the same rounds."""
    import math

    points, reads, peaks = [], [], []
    for variant in variants:
        macs = variant.info["ternary_weights"] + variant.head_weights
        ternary = variant.info["ternary_weights"]
        decode = [row for row in variant.report["decode"] if row["threads"] == 1][0]
        rate = statistics.median(s[variant.name]["decode", 1][0] for s in samples)
        points.append((variant.name, macs / decode["bytes_per_token"], macs * rate * 1e-9))
        reads.append(statistics.median(s[variant.name]["decode", 1][0] * decode["bytes_per_token"]
                                       / s[variant.name]["decode", 1][1] for s in samples) * 1e-9)
        rate = statistics.median(s[variant.name]["prefill", 1][0] for s in samples)
        tokens = variant.report["prefill"][0]["tokens"]
        points.append((variant.name, ternary * tokens / variant.info["weights_bytes"], ternary * rate * 1e-9))
        peaks.append(statistics.median(ternary * rate / fraction for rate, fraction in
                                       (s[variant.name]["prefill", 1] for s in samples)) * 1e-9)
    read, peak = statistics.median(reads), max(peaks)
    low_x, high_x, low_y, high_y = 0, 4, 1, 3  # powers of ten

    def x(value):
        return LEFT + (RIGHT - LEFT) * (math.log10(value) - low_x) / (high_x - low_x)

    def y(value):
        return BOTTOM - (BOTTOM - TOP) * (math.log10(value) - low_y) / (high_y - low_y)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
             f'font-size="12" fill="#444"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']

    def text(at_x, at_y, words, anchor="middle"):
        parts.append(f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{words}</text>')

    def line(x1, y1, x2, y2, colour="#444"):
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')

    for power in range(low_x, high_x + 1):
        line(x(10**power), TOP, x(10**power), BOTTOM, "#ddd")
        text(x(10**power), BOTTOM + 16, f"{10**power:g}")
    for power in range(low_y, high_y + 1):
        line(LEFT, y(10**power), RIGHT, y(10**power), "#ddd")
        text(LEFT - 6, y(10**power) + 4, f"{10**power:g}", "end")
    text((LEFT + RIGHT) / 2, BOTTOM + 36, "multiply-accumulates per byte read (left: decode, right: prefill)")
    text(LEFT, TOP - 12, "GMAC/s, one thread", "start")
    corner = peak / read
    line(x(10**low_y / read), y(10**low_y), x(corner), y(peak))
    line(x(corner), y(peak), RIGHT, y(peak))
    text(RIGHT + 4, y(peak) + 4, f"dot peak {peak:.0f}", "start")
    text(x(2.5), y(2.5 * read) - 8, f"read {read:.0f} GB/s", "end")
    for i, (name, intensity, rate) in enumerate(points):
        colour = COLOURS[i // 2 % len(COLOURS)]
        parts.append(f'<circle cx="{x(intensity):.1f}" cy="{y(rate):.1f}" r="4" fill="{colour}" fill-opacity="0.8"/>')
        if i % 2 == 0:
            at = TOP + 60 + 9 * i
            parts.append(f'<circle cx="{RIGHT + 12}" cy="{at - 4}" r="4" fill="{colour}"/>')
            text(RIGHT + 20, at, name.replace("--", ""), "start")
    return "\n".join([*parts, "</svg>", ""])


def main():
    arguments = parse_arguments()
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        variants = [Variant(options, arguments, Path(scratch)) for options in arguments.variant or [""]]
        peers = [compare.Peer(text) for text in arguments.peer]
        contenders = [contender.name for contender in (*variants, *peers)]
        samples = compare.measure_in_turns([*variants, *peers], arguments)
        report = variants[0].report
        lines = [f"{report['cpu']}, {os.cpu_count()} CPUs, {datetime.date.today()}, medians (least-most) of "
                 f"{arguments.rounds} interleaved rounds, load {os.getloadavg()[2]:.1f}. Tokens/s of a prompt of "
                 f"{arguments.prompt} tokens and of {arguments.gen} generated ones; the percentage is of the dot-product "
                 "peak (prefill, ternary weights alone) and of a pure read of the same bytes (decode), measured in the "
                 "same run.", "",
                 *write_table(contenders, samples, arguments), *write_ratios(variants, peers, samples), ""]
        if not arguments.out:
            print("\n".join(lines))
            return
        (arguments.out / "performance.svg").write_text(draw_roofline(variants, samples))
        page = arguments.out / "performance.md"
        head = page.read_text().partition("<!-- measured -->")[0] if page.exists() else "# Performance\n\n"
        page.write_text(head + "<!-- measured -->\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
