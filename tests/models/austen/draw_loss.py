#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draws the log of train.py: `draw_loss.py loss.csv` writes loss.svg beside it."""

import csv
import math
import sys
from pathlib import Path

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 580, 40, 310  # of the frame
BYTES_PER_TOKEN = 3.143  # of Persuasion: puts both units on one scale
BITS = 1 / math.log(2) / BYTES_PER_TOKEN  # bits/byte of one nat/token
TRAIN, VALIDATION = "#4477aa", "#cc3311"


def draw(log, picture):
    rows = list(csv.DictReader(log.open()))
    tokens = [int(row["tokens"]) / 1e6 for row in rows]
    train = [float(row["train_nats_per_token"]) for row in rows]
    validation = [(at, float(row["validation_bits_per_byte"]) / BITS)
                  for at, row in zip(tokens, rows) if row["validation_bits_per_byte"]]
    most = math.ceil(tokens[-1])
    low = math.floor(min(train + [nats for _, nats in validation]))
    high = math.ceil(max(train))

    def x(millions):
        return LEFT + (RIGHT - LEFT) * millions / most

    def y(nats):
        return BOTTOM - (BOTTOM - TOP) * (nats - low) / (high - low)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="13" fill="#444">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']

    def text(at_x, at_y, words, anchor="middle", more=""):
        parts.append(f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}"{more}>{words}</text>')

    def line(x1, y1, x2, y2, color):
        parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{color}"/>')

    for nats in range(low, high + 1):
        line(LEFT, y(nats), RIGHT, y(nats), "#ddd")
        text(LEFT - 8, y(nats) + 4, nats, "end")
    for half_bits in range(math.ceil(2 * low * BITS), math.floor(2 * high * BITS) + 1):
        at = y(half_bits / 2 / BITS)
        line(RIGHT, at, RIGHT + 5, at, "#444")
        text(RIGHT + 9, at + 4, half_bits / 2, "start")
    for millions in range(0, most + 1, max(1, most // 8)):
        line(x(millions), BOTTOM, x(millions), BOTTOM + 5, "#444")
        text(x(millions), BOTTOM + 19, millions)
    line(LEFT, BOTTOM, RIGHT, BOTTOM, "#444")
    text((LEFT + RIGHT) / 2, BOTTOM + 40, "million tokens seen")
    text(LEFT - 8, TOP - 16, "nats/token", more=f' fill="{TRAIN}"')
    text(RIGHT + 9, TOP - 16, "bits/byte", more=f' fill="{VALIDATION}"')

    points = " ".join(f"{x(at):.1f},{y(nats):.1f}" for at, nats in zip(tokens, train))
    parts.append(f'<polyline points="{points}" fill="none" stroke="{TRAIN}" stroke-width="2"/>')
    # Its name stands where the curve has come down a third of its way.
    third = next(i for i, nats in enumerate(train) if nats < train[0] - (train[0] - train[-1]) / 3)
    text(x(tokens[third]) + 12, y(train[third]), "training", "start", f' fill="{TRAIN}"')
    for at, nats in validation:
        parts.append(f'<circle cx="{x(at):.1f}" cy="{y(nats):.1f}" r="4.5" fill="{VALIDATION}"/>')
        name = "validation " if at == validation[0][0] else ""
        text(x(at) + 5, y(nats) - 9, f"{name}{nats * BITS:.2f}", "start", f' fill="{VALIDATION}"')
    picture.write_text("\n".join(parts + ["</svg>", ""]))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[1]).with_suffix(".svg"))
