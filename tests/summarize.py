# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Counts the cases inside ctest's tests: GoogleTest, pytest, lit; any other
test is one case. Prints `N passed, N failed` as the last line."""

import re
import sys
import xml.etree.ElementTree as xml

COUNTS = {
    "passed": (r"^\[  PASSED  \] (\d+) test", r"^=*.*?\b(\d+) passed", r"^  Passed *: *(\d+)"),
    "failed": (r"^\[  FAILED  \] (\d+) test", r"^=*.*?\b(\d+) failed", r"^  Failed *: *(\d+)"),
}


def count(output, kind):
    return sum(int(match) for pattern in COUNTS[kind]
               for match in re.findall(pattern, output, re.MULTILINE)[-1:])


def main(path):
    passed = failed = 0
    for case in xml.parse(path).getroot().iter("testcase"):
        if case.get("status") == "disabled":
            continue
        output = case.findtext("system-out") or ""
        ok = case.get("status") == "run"
        inside = count(output, "passed"), count(output, "failed")
        passed += inside[0] if any(inside) else ok
        # A crash fails a test whatever it had counted.
        failed += max(inside[1], not ok)
        if not ok:
            print(f"failed: {case.get('name')}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
