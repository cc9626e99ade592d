"""`trueup journal`: looks at a journal byte by byte, and mends a damaged one.

Not for showing what stands in it (`replay`, `explain`). Invariant: nothing is changed without --yes, and what is lost
is said before and after.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueup.cli.output import EXIT_NO, JsonFlag, emit, out

if TYPE_CHECKING:
    from trueup.bootstrap import JournalReport

journal_app = typer.Typer(help="Check and mend a journal.", no_args_is_help=True)

EXIT_DAMAGED = 65
"""What `check` returns for a damaged journal; a start returns the same."""

StateOption = Annotated[Path, typer.Option("--state", metavar="FOLDER", help="The folder of the journal.")]


@journal_app.command("check")
def check(state: StateOption, as_json: JsonFlag = False) -> None:
    """Read every page of a journal and say what is wrong; changes nothing, exit 65 when it is damaged."""
    from trueup import bootstrap

    report = bootstrap.examine_journal(state)
    _say(report, as_json=as_json, repaired=False)
    if not report.is_sound:
        if not as_json:
            out.print(f"mend it with `trueup journal repair --state {state}`", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_DAMAGED)


@journal_app.command("repair")
def repair(
    state: StateOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said what would be done.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Keep every entry that can be read, mark what is lost, and set the damaged files aside.

    The marks open a gap, so that the next start reads the broker's books before it trusts its own. Exit 0 when the
    journal is sound (again), 1 when it is damaged and --yes was not given.
    """
    from trueup import bootstrap

    report = bootstrap.examine_journal(state)
    if report.is_sound:
        _say(report, as_json=as_json, repaired=False)
        return
    if not yes:
        _say(report, as_json=as_json, repaired=False)
        if not as_json:
            out.print("nothing was changed; add --yes to repair it so", style="yellow", markup=False)
        raise typer.Exit(EXIT_NO)
    _say(bootstrap.repair_journal(state), as_json=as_json, repaired=True)


def _say(report: JournalReport, *, as_json: bool, repaired: bool) -> None:
    if as_json:
        answer: dict[str, Any] = {
            "sound": report.is_sound or repaired,
            "repaired": repaired,
            "path": str(report.path),
            "entries": report.entries,
            "lost": [{"first": first, "last": last, "kind": kind} for first, last, kind in report.lost],
            "lost_count": report.lost_count,
            "wrongs": list(report.wrongs),
            "torn_pages": report.torn_pages,
            "may_have_lost_a_kill": report.may_have_lost_a_kill,
            "kept_at": None if report.kept_at is None else str(report.kept_at),
        }
        emit(answer)
        return
    for line in _lines(report, repaired=repaired):
        out.print(line, markup=False, soft_wrap=True)


def _lines(report: JournalReport, *, repaired: bool) -> list[str]:
    lines = [f"{report.path}: {report.entries:,} entries, {report.checkpoints} checkpoints"]
    if report.torn_pages:
        lines.append(
            f"the last write was cut short ({report.torn_pages} pages); it was never acknowledged, and the next start "
            "drops it"
        )
    if report.is_sound:
        return [*lines, "sound: every entry can be read"]
    lines.extend(report.wrongs)
    if not report.lost:
        lines.append("no entry is lost")
    for first, last, kind in report.lost[:20]:
        if first == last:
            lines.append(f"entry {first} is lost" + (f", a {kind}" if kind else ""))
        else:
            lines.append(f"entries {first} to {last} are lost" + (f", the first a {kind}" if kind else ""))
    if len(report.lost) > 20:
        lines.append(f"and {len(report.lost) - 20} more stretches; {report.lost_count:,} entries in all")
    done = "was" if repaired else "would be"
    lines.append(
        f"each of the other {report.entries - report.lost_count:,} {done} kept at its place; a mark {done} left where "
        "one is lost and at the end, which opens a gap until the broker's books were read"
    )
    if report.may_have_lost_a_kill:
        lines.append(
            f"one of the lost may have been a kill, so a kill {done} added: the next start cancels every working order "
            "and sends nothing new until `trueup resume`"
        )
    if report.kept_at is not None:
        lines.append(f"repaired; the damaged files are kept in {report.kept_at}")
    return lines
