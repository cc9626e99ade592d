"""Prints the settings for a mutation run: mutmut's own from pyproject.toml, and the little that pytest needs for it."""

from __future__ import annotations

import tomllib
from pathlib import Path


def main() -> None:
    settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    print("[tool.mutmut]")
    for name, value in settings.items():
        print(f"{name} = {value!r}")
    print("\n[tool.pytest.ini_options]")
    print('addopts = ["--import-mode=importlib"]')


if __name__ == "__main__":
    main()
