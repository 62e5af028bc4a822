# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The page of --bench --report in a headless browser: it opens without errors, and
what it shows are the numbers of --json of the same run."""

import html.parser
import json
import math
import os
import pathlib
import shutil
import subprocess

import pytest

BIN = pathlib.Path(os.environ["TERCET_FAKE_MODEL_DIR"])


class Page(html.parser.HTMLParser):
    """Rows of cells, and titles of the points, of a document as a browser has it."""

    def __init__(self, dom):
        super().__init__()
        self.rows, self.titles, self.text, self.path = [], [], "", []
        self.feed(dom)

    def handle_starttag(self, tag, attributes):
        self.path.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "title" and "circle" in self.path:
            self.titles.append("")

    def handle_endtag(self, tag):
        while self.path and self.path.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data
        if self.path[-1:] == ["title"] and "circle" in self.path:
            self.titles[-1] += data
        elif {"td", "th"} & set(self.path):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What --json printed, and the page after a browser has opened it."""
    directory = tmp_path_factory.mktemp("page")
    file = directory / "report.html"
    bench = subprocess.run([BIN / "fake-model", "--bench", "--prompt", "32", "--gen", "8", "--threads", "2",
                            "--batch", "1,3", "--json", "--report", file],
                           capture_output=True, text=True, timeout=60, check=True)
    browser = shutil.which("chromium")
    assert browser, "no chromium: ./dev setup installs it"
    done = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                           "--disable-background-networking", "--disable-component-update", "--disable-sync",
                           f"--user-data-dir={directory / 'profile'}", "--enable-logging=stderr", "--dump-dom",
                           file.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    return json.loads(bench.stdout), Page(done.stdout)


def assert_same(shown, number, scale=1.0):
    """A number on the page has one digit after the point, those of --json two or more."""
    digits = len(shown.partition(".")[2])
    assert math.isclose(float(shown), scale * number, abs_tol=0.5 * 10**-digits + 0.0051 * scale), (shown, number)


def test_rates(opened):
    bench, page = opened
    expected = [("prefill", row) for row in bench["prefill"]] + [("decode", row) for row in bench["decode"]]
    rows = [row for row in page.rows if row[0] in ("prefill", "decode")]
    assert len(rows) == len(expected) == 2 + 4
    for cells, (phase, row) in zip(rows, expected):
        limit, fraction, unit = (("dot_gmac_per_s", "fraction_of_dot_peak", "GMAC/s") if phase == "prefill" else
                                 ("read_gb_per_s", "fraction_of_read", "GB/s"))
        assert cells[:3] == [phase, str(row["threads"]), str(row.get("batch", 1))]
        assert_same(cells[3], row["tokens_per_s"])
        assert_same(cells[4].removesuffix("%"), row["spread"], 100)
        assert_same(cells[5].removesuffix("%"), row[fraction], 100)
        assert cells[6].endswith(unit)
        assert_same(cells[6].split()[0], row[limit])


def test_bars(opened):
    bench, page = opened
    bars = [row for row in page.rows if row[0].endswith(("sequence", "sequences"))]
    assert len(bars) == len(bench["decode"])
    for (label, _, text), row in zip(bars, bench["decode"]):
        assert [int(part.split()[0]) for part in label.split(", ")] == [row["threads"], row["batch"]]
        assert_same(text.removesuffix(" tokens/s"), row["tokens_per_s"])


def test_kernels(opened):
    bench, page = opened
    rows = [row for row in page.rows if row[0] == "fake.<head>"]
    assert len(rows) == len(bench["kernels"]) == 1
    for cells, kernel in zip(rows, bench["kernels"]):
        assert cells[:2] == [kernel["layer"], kernel["op"]]
        assert_same(cells[2].removesuffix(" us"), kernel["decode_us"])
        assert_same(cells[3].removesuffix(" us"), kernel["prefill_us"])


def test_roofline(opened):
    """The points are at tokens/s times one number, the ternary weights."""
    bench, page = opened
    rows = bench["prefill"] + bench["decode"]
    assert len(page.titles) == len(rows)
    rates = [float(title.split(": ")[1].removesuffix(" GMAC/s")) for title in page.titles]
    weights = max(rate / row["tokens_per_s"] for rate, row in zip(rates, rows))
    for rate, row in zip(rates, rows):
        assert math.isclose(rate, row["tokens_per_s"] * weights, rel_tol=0.1, abs_tol=0.1), (rate, row)


def test_head(opened):
    bench, page = opened
    for part in (bench["cpu"], f"target {bench['target']}", f"Medians of {bench['rounds']} rounds",
                 f"Loaded in {bench['load_s']:.3f} s", bench["noise"]):
        assert part in page.text, part
