"""Says once more, last and in few lines, what the failed tests complained of: the top of a long log is easily lost.

Usage: failures.py FOLDER, where ctest has left LastTest.log and LastTestsFailed.log."""

import itertools
import pathlib
import re
import sys

MOST_LINES = 12
WIDTH = 400
# What unittest, GoogleTest and sanitizers write above and below what matters.
TELLING = re.compile(r"^(FAIL|ERROR): |^\w*(Error|Exception|Expired)\b|^\[  FAILED  \]|: Failure$|^  (Expected|Actual)|^Which is|"
                     r"^(==\d+==)?ERROR|^SUMMARY|runtime error:")


def sections(log):
    """The name of each test, and what it wrote."""
    parts = re.split(r"^\d+/\d+ Testing: (.+)$", log, flags=re.MULTILINE)
    return zip(parts[1::2], parts[2::2])


def main():
    folder = pathlib.Path(sys.argv[1])
    failed = folder / "LastTestsFailed.log"
    if not failed.exists():
        return
    names = {line.split(":", 1)[1] for line in failed.read_text().splitlines()}
    for name, text in sections((folder / "LastTest.log").read_text(errors="replace")):
        if name not in names:
            continue
        lines = text.splitlines()
        telling = [line for line in lines if TELLING.search(line)] or [line for line in lines if line.strip()][-MOST_LINES:]
        print(f"{name}:")
        for line in itertools.islice(telling, MOST_LINES):
            print("  " + line.strip()[:WIDTH])


main()
