"""Prints a mutation run as a table, file by file, from the verdicts that `mutmut results --all True` lists on stdin."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

NOTICED = {"killed", "timeout"}


def main() -> None:
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for line in sys.stdin:
        mutant, _, verdict = line.strip().rpartition(": ")
        files[mutant.split(".x", 1)[0].rpartition(".")[2]][verdict] += 1
    rows = [(f"`core/{name}.py`", verdicts) for name, verdicts in sorted(files.items())]
    rows.append(("all", sum((verdicts for _, verdicts in rows), Counter())))
    print("| file | mutants | killed | survived | rate |\n|---|---:|---:|---:|---:|")
    for name, verdicts in rows:
        killed = sum(count for verdict, count in verdicts.items() if verdict in NOTICED)
        total = verdicts.total()
        print(f"| {name} | {total:,} | {killed:,} | {total - killed:,} | {100 * killed / max(total, 1):.1f} % |")


if __name__ == "__main__":
    main()
