"""The repository's own habits, read from the files that git tracks; each message names what to do instead.

Not for style or types: ruff, mypy and import-linter look at those. Here stands what no other tool can see.

Invariant: every rule over texts is shown, in `CAUGHT`, to catch the fault it is for.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import trueup

ROOT = Path(__file__).resolve().parents[1]
SELF = "tests/test_tidy.py"
"""Exempt from the rules over texts: it has to spell out what it forbids."""

LOCKS = {"requirements.lock", "web/package-lock.json"}
"""Written by machines; only the rules about locks and hosts apply."""

Rule = Callable[[PurePosixPath, str], Iterator[str]]


def tracked() -> list[PurePosixPath]:
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    )
    names = listing.stdout.decode().split("\0")
    # A file that is deleted and not yet committed is still listed.
    return [PurePosixPath(name) for name in names if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[PurePosixPath, str]]:
    for path in tracked():
        raw = (ROOT / path).read_bytes()
        if b"\0" not in raw and str(path) != SELF:
            yield path, raw.decode(encoding="utf-8")


# --- rules over the text of one file ---------------------------------------------------------------


def matches(pattern: str, path: PurePosixPath, text: str, instead: str) -> Iterator[str]:
    for found in re.finditer(pattern, text):
        yield f"{path}:{text.count(chr(10), 0, found.start()) + 1}: {found.group()!r}: {instead}"


def no_machine_paths(path: PurePosixPath, text: str) -> Iterator[str]:
    instead = "a path of one machine; write it relative to the repository, or take it from a setting"
    yield from matches(r"(?<![\w.~})/-])/(?:work|root|home|Users|private/tmp)/[\w.-]+", path, text, instead)
    yield from matches(r"\b[A-Z]:\\Users\b", path, text, instead)


def no_registry_hosts(path: PurePosixPath, text: str) -> Iterator[str]:
    instead = "the host of a package registry; leave it to each machine's own settings (`make lock` writes none)"
    hosts = r"pypi\.org|pythonhosted\.org|registry\.npmjs\.\w+|npmmirror\.com|registry\.yarnpkg\.com|deb\.debian\.org"
    yield from matches(hosts, path, text, instead)
    yield from matches(r"(?m)^\s*--(?:extra-)?index-url\b.*|^\s*--find-links\b.*", path, text, instead)


def nothing_left_undone(path: PurePosixPath, text: str) -> Iterator[str]:
    if str(path) in LOCKS:
        return
    yield from matches(
        r"\b(?:TODO|FIXME|XXX|HACK)\b", path, text, "do it now, or write down in docs/ why it is left out"
    )
    if path.suffix == ".py":
        yield from matches(r"\bNotImplementedError\b", path, text, "write the code, or use a Protocol")


def no_switched_off_tests(path: PurePosixPath, text: str) -> Iterator[str]:
    instead = "a test that does not run proves nothing; make it pass, mark its need (`external_service`), or delete it"
    if path.suffix == ".py":
        yield from matches(r"\bpytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b", path, text, instead)
        yield from matches(r"\bunittest\.(?:mock|skip\w*)\b", path, text, "the memory adapters are the fakes; use them")
    if path.suffix in {".ts", ".tsx"}:
        yield from matches(r"\b(?:it|test|describe)\.(?:skip|only|todo|fails)\b", path, text, instead)


def no_merge_left_open(path: PurePosixPath, text: str) -> Iterator[str]:
    yield from matches(r"(?m)^(?:<{7}|>{7}|\|{7}) .*$", path, text, "finish the merge")


def a_docstring_in_every_module(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix == ".py" and path.parts[0] in {"src", "bench", "examples", "scripts"} and text.strip():
        if not ast.get_docstring(ast.parse(text)):
            yield f"{path}:1: open the module with a paragraph: what it is for, what it is not for, what it keeps"
    elif path.suffix == ".py" and path.parts[0] == "src":
        yield f"{path}:1: an empty module; say in a docstring what the package is for"


def failures_are_not_swallowed(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix != ".py" or path.parts[0] != "src" or str(path) == "src/trueup/runtime/supervisor.py":
        return
    instead = "name the errors you can do something about; the supervisor restarts after the rest"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = {"everything"} if node.type is None else names_in(node.type)
            # Tidying up and passing the error on swallows nothing.
            passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if caught & {"everything", "Exception"} or ("BaseException" in caught and not passed_on):
                yield f"{path}:{node.lineno}: catches {', '.join(sorted(caught))}: {instead}"
        elif isinstance(node, ast.Call) and "suppress" in names_in(node.func):
            suppressed = set[str]().union(*(names_in(argument) for argument in node.args))
            if suppressed & {"Exception", "BaseException"}:
                yield f"{path}:{node.lineno}: suppresses everything: {instead}"


def names_in(node: ast.AST) -> set[str]:
    named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return named | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def no_bare_print(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix != ".py" or path.parts[0] != "src":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "breakpoint"}:
            yield f"{path}:{node.lineno}: {node.func.id}(): log it; the command line prints with rich"


def dice_without_clocks(path: PurePosixPath, text: str) -> Iterator[str]:
    # ruff lets this file seed its dice, and cannot let it do that alone.
    if str(path) != "src/trueup/simulator/market.py":
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                reads = any(name.name == "time" for name in names)
            case ast.ImportFrom(module="time") | ast.Attribute(attr="now" | "utcnow" | "today"):
                reads = True
            case _:
                continue
        if reads:
            yield f"{path}:{node.lineno}: reads a clock: take the time as an argument"


def unlocked_packages(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.name == "requirements.lock":
        for entry in re.split(r"\n(?=\S)", text):
            if entry.startswith("#"):
                continue
            if not re.match(r"[a-zA-Z0-9_.-]+==\S+", entry) or "--hash=sha256:" not in entry:
                yield f"{path}: {entry.splitlines()[0]!r} has no pin or no hash: write the lock with `make lock`"
    if path.name == "package-lock.json":
        for name, entry in json.loads(text)["packages"].items():
            if "resolved" in entry and not entry.get("link"):
                yield f"{path}: {name} says where it came from: keep web/.npmrc, and write the lock with `make lock`"
            if name.startswith("node_modules/") and not ({"integrity", "link", "inBundle"} & entry.keys()):
                yield f"{path}: {name} has no integrity hash: write the lock with `make lock`"


def links_that_lead_nowhere(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix != ".md":
        return
    prose = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", text)
    for found in re.finditer(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", prose):
        target = found.group(1)
        if "://" not in target and not target.startswith("mailto:") and not (ROOT / path.parent / target).exists():
            yield f"{path}: the link to {target} leads nowhere: mend or remove it"


def make_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8")))


def commands_that_do_not_exist(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix != ".md":
        return
    for found in re.finditer(r"(?m)(?:`|^\s*\$ |^)make ([a-z][a-z-]*)", text):
        if found.group(1) not in make_targets():
            yield f"{path}: `make {found.group(1)}` is no target: `make` alone lists them"


RULES: list[Rule] = [
    no_machine_paths,
    no_registry_hosts,
    nothing_left_undone,
    no_switched_off_tests,
    no_merge_left_open,
    a_docstring_in_every_module,
    failures_are_not_swallowed,
    no_bare_print,
    dice_without_clocks,
    unlocked_packages,
    links_that_lead_nowhere,
    commands_that_do_not_exist,
]

CAUGHT: list[tuple[Rule, str, str]] = [
    (no_machine_paths, "docs/a.md", "see /home/someone/notes"),
    (no_machine_paths, "src/trueup/a.py", 'STATE = "/root/state"'),
    (no_machine_paths, "docs/a.md", r"C:\Users\someone"),
    (no_registry_hosts, "README.md", "from https://pypi.org/simple"),
    (no_registry_hosts, "requirements.lock", "--extra-index-url file:///mirror"),
    (no_registry_hosts, "web/package-lock.json", "https://registry.npmjs.org/react"),
    (nothing_left_undone, "web/src/App.tsx", "// TODO later"),
    (nothing_left_undone, "src/trueup/a.py", "raise NotImplementedError"),
    (no_switched_off_tests, "tests/test_a.py", "@pytest.mark.skip"),
    (no_switched_off_tests, "tests/test_a.py", "from unittest.mock import Mock"),
    (no_switched_off_tests, "web/src/a.test.ts", "it.only('works', run)"),
    (no_merge_left_open, "docs/a.md", "<" * 7 + " ours"),
    (a_docstring_in_every_module, "src/trueup/a.py", "x = 1"),
    (a_docstring_in_every_module, "src/trueup/bus/__init__.py", ""),
    (failures_are_not_swallowed, "src/trueup/a.py", "try:\n    f()\nexcept Exception:\n    raise"),
    (failures_are_not_swallowed, "src/trueup/a.py", "try:\n    f()\nexcept (OSError, Exception) as e:\n    g(e)"),
    (failures_are_not_swallowed, "src/trueup/a.py", "try:\n    f()\nexcept:\n    g()"),
    (failures_are_not_swallowed, "src/trueup/a.py", "try:\n    f()\nexcept BaseException:\n    g()"),
    (failures_are_not_swallowed, "src/trueup/a.py", "with contextlib.suppress(Exception):\n    f()"),
    (no_bare_print, "src/trueup/a.py", "print(1)"),
    (dice_without_clocks, "src/trueup/simulator/market.py", "from time import time"),
    (dice_without_clocks, "src/trueup/simulator/market.py", "datetime.now(UTC)"),
    (unlocked_packages, "requirements.lock", "# by make lock\nrich==15.0.0\n    # via trueup"),
    (unlocked_packages, "requirements.lock", "# by make lock\nrich>=15 \\\n    --hash=sha256:00"),
    (unlocked_packages, "web/package-lock.json", '{"packages": {"node_modules/a": {"version": "1"}}}'),
    (
        unlocked_packages,
        "web/package-lock.json",
        '{"packages": {"node_modules/a": {"integrity": "sha512-0", "resolved": "here"}}}',
    ),
    (links_that_lead_nowhere, "docs/a.md", "[gone](gone.md#part)"),
    (commands_that_do_not_exist, "README.md", "Run `make coffee`."),
    (commands_that_do_not_exist, "README.md", "```\n$ make coffee\n```"),
]

LET_THROUGH: list[tuple[Rule, str, str]] = [
    (no_machine_paths, "docs/a.md", "GET /api/work/home/ and src/home/a.py and ~/work/here"),
    (failures_are_not_swallowed, "src/trueup/a.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (failures_are_not_swallowed, "src/trueup/runtime/supervisor.py", "try:\n    f()\nexcept Exception:\n    g()"),
    (no_bare_print, "src/trueup/cli.py", "console.print(1)"),
    (unlocked_packages, "requirements.lock", "# by make lock\nrich==15.0.0 \\\n    --hash=sha256:00"),
    (links_that_lead_nowhere, "docs/a.md", "[up](../README.md) and `[no](link.md)`"),
    (commands_that_do_not_exist, "README.md", "Run `make test`; it will make sense."),
]


def named(rule: Rule) -> str:
    return rule.__name__


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_the_repository_keeps(rule: Rule) -> None:
    offences = [offence for path, text in texts() for offence in rule(path, text)]
    assert not offences, "\n" + "\n".join(offences)


@pytest.mark.parametrize(("rule", "path", "text"), CAUGHT)
def test_a_rule_catches_its_fault(rule: Rule, path: str, text: str) -> None:
    assert list(rule(PurePosixPath(path), text))


@pytest.mark.parametrize(("rule", "path", "text"), LET_THROUGH)
def test_a_rule_lets_good_work_through(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(PurePosixPath(path), text))


def test_every_rule_is_shown_to_catch_something() -> None:
    assert {named(rule) for rule, _, _ in CAUGHT} == {named(rule) for rule in RULES}


# --- rules over several files ----------------------------------------------------------------------


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def runtime_requirements() -> list[Requirement]:
    return [Requirement(line) for line in project()["project"]["dependencies"]]  # type: ignore[index]


def all_requirements() -> list[Requirement]:
    extras = project()["project"]["optional-dependencies"]  # type: ignore[index]
    return runtime_requirements() + [Requirement(line) for lines in extras.values() for line in lines]


def test_the_lock_answers_every_requirement() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s\\;]+)", lock)}
    offences = []
    for requirement in all_requirements():
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None or not requirement.specifier.contains(pin):
            offences.append(f"pyproject.toml wants {requirement}, the lock has {pin}: run `make lock`")
    assert not offences, "\n" + "\n".join(offences)


def test_the_core_is_barred_from_every_library_we_install() -> None:
    contracts = project()["tool"]["importlinter"]["contracts"]  # type: ignore[index]
    barred = next(contract for contract in contracts if contract["name"].startswith("The core does no IO"))
    ours = {canonicalize_name(requirement.name) for requirement in runtime_requirements()}
    installed = {
        module
        for module, distributions in packages_distributions().items()
        if ours & {canonicalize_name(distribution) for distribution in distributions} and not module.startswith("_")
    }
    missing = installed - set(barred["forbidden_modules"])
    assert not missing, f"add {sorted(missing)} to the forbidden modules of {barred['name']!r} in pyproject.toml"


def test_one_version_everywhere() -> None:
    assert project()["project"]["version"] == trueup.__version__, (  # type: ignore[index]
        "give pyproject.toml and src/trueup/__init__.py the same version"
    )


def test_scripts_can_be_run() -> None:
    offences = [
        f"{path} begins with #! and may not be run: git update-index --chmod=+x {path}"
        for path, text in texts()
        if text.startswith("#!") and not os.access(ROOT / path, os.X_OK)
    ]
    assert not offences, "\n" + "\n".join(offences)


def test_every_make_target_a_person_calls_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    parts_of_check = {"lint", "types", "contracts", "spelling", "check-web"}
    silent = make_targets() - set(re.findall(r"(?m)^([a-z][a-z-]*):.*## \S", makefile)) - parts_of_check
    assert not silent, f"add a `## description` to {sorted(silent)}, so that `make` lists it"


def test_a_decision_is_told_in_four_parts() -> None:
    pages = [path for path in tracked() if path.parent == PurePosixPath("docs/decisions") and path.name[:4].isdigit()]
    assert pages, "the decisions stand in docs/decisions, numbered from 0001"
    offences = []
    for path in pages:
        headings = re.findall(r"(?m)^## (.+)$", (ROOT / path).read_text(encoding="utf-8"))
        if headings[:4] != ["Context", "Choice", "Cost", "What would change our mind"]:
            offences.append(f"{path}: tell it as Context, Choice, Cost, What would change our mind; it has {headings}")
    assert not offences, "\n" + "\n".join(offences)
