"""`trueup chaos`: lives thousands of schedules of the real runtime amid drawn harm, and says whether anything broke.

Not for a real account: everything happens in virtual time against the exchange in this process. Invariant: whatever is
found is printed with the command that finds it again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from trueup.cli.output import EXIT_NO, EXIT_USAGE, CommandFailed, JsonFlag, emit, err, out

if TYPE_CHECKING:
    from trueup.chaos.life import Lived
    from trueup.chaos.proof import Failure, Run, Tally

SEEDS_SHOWN = 20

SHARES = (
    ("a process killed", "crash"),
    ("a process stopped", "stop"),
    ("a write lost or unanswered at the kill", "write lost", "write unanswered"),
    ("a stream lost", "FeedLost"),
    ("a submit in doubt", "submit unknown"),
    ("a look-up that found nothing", "not found"),
    ("a snapshot that failed", "SnapshotFailed"),
    ("a fill the stream never told", "fills_missed_by_stream"),
    ("a kill", "Kill"),
    ("a bust or a correction", "bust", "correct"),
    ("a drift found", "drift"),
)
"""What people want to know of the harm, and the names under which it is counted."""


def chaos(
    schedules: Annotated[int, typer.Option("--schedules", min=1, help="How many to live.")] = 1_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="What all of them are drawn from.")] = 1,
    first: Annotated[int, typer.Option("--first", min=0, help="Number of the first one, to go on with a seed.")] = 0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="Virtual seconds of harm in each; 6 unless told.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes to live them in; one for each processor unless told.")
    ] = None,
    core: Annotated[
        bool, typer.Option("--core", help="Live the core alone, fifty times as fast and without the runtime around it.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop soon after the first violation.")] = False,
    schedule: Annotated[
        int | None, typer.Option("--schedule", min=0, metavar="SEED", help="Live the one schedule of this seed, aloud.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="NUMBERS", help="With --schedule: only these acts, such as 3,7,12 (or none)."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove order truth: live schedules of faults, crashes and restarts, and compare belief with the exchange's books.

    Exit code 1 when anything that must hold did not; the shortened schedule and the command for it are printed.
    """
    from trueup.chaos.plan import SHORT_S
    from trueup.chaos.proof import Run

    length = SHORT_S if seconds is None else seconds
    if core and (seconds is not None or keep is not None):
        message = "schedules of the core have a length of their own and no acts; leave --seconds and --keep out"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="core")
    if schedule is not None:
        _live_one(schedule, length, _numbers(keep), core=core, as_json=as_json)
        return
    if keep is not None:
        message = "--keep chooses among the acts of one schedule; name it with --schedule"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="keep")
    run = Run(seed=seed, schedules=schedules, first=first, seconds=length, core=core)
    _live_many(run, jobs or os.cpu_count() or 1, stop=stop, as_json=as_json)


def _numbers(keep: str | None) -> frozenset[int] | None:
    if keep is None:
        return None
    try:
        return frozenset(int(word) for word in keep.split(",")) if keep != "none" else frozenset()
    except ValueError:
        message = f"--keep must be act numbers such as 3,7,12, or none; got {keep!r}"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="keep") from None


# --- many -----------------------------------------------------------------------------------------------------------


def _live_many(run: Run, jobs: int, *, stop: bool, as_json: bool) -> None:
    from trueup.chaos.proof import Tally, prove
    from trueup.runtime.clock import SystemClock

    clock = SystemClock()
    began, total = clock.monotonic(), Tally()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=as_json or not err.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("schedules", total=run.schedules)
        for tally in prove(run, jobs):
            total.add(tally)
            progress.update(task, completed=total.schedules)
            if stop and total.failures:
                break
    seconds = clock.monotonic() - began
    if as_json:
        emit(
            {
                "schedules": total.schedules,
                "seed": run.seed,
                "violations": len(total.failures),
                "steps": total.steps,
                "seconds": round(seconds, 1),
                "first": run.first,
                "core": run.core,
                "virtual_seconds": round(total.virtual_s),
                "failed_seeds": [failure.seed for failure in total.failures[:SEEDS_SHOWN]],
                "failures": [
                    {
                        "number": failure.number,
                        "seed": failure.seed,
                        "checker": failure.checker,
                        "detail": failure.detail,
                        "again": _command(run, failure.seed),
                    }
                    for failure in total.failures[:SEEDS_SHOWN]
                ],
                "digest": f"{total.digest:016x}",
                "harm": dict(total.harm.most_common()),
            }
        )
    else:
        _show(run, total, seconds)
    if total.failures:
        if not as_json:
            _show_shortened(run, total.failures[0])
        raise SystemExit(EXIT_NO)


def _show(run: Run, total: Tally, seconds: float) -> None:
    what = "schedules of the core" if run.core else "schedules of the whole runtime"
    last = run.first + run.schedules - 1
    out.print(f"{total.schedules:,} {what}, seed {run.seed}, numbers {run.first:,} to {last:,}", style="bold")
    virtual = "" if run.core else f" and {total.virtual_s / 3600:,.1f} hours of virtual time"
    out.print(f"{total.steps:,} inputs{virtual} in {seconds:,.1f} s")
    if not run.core:
        table = Table("of them with", "share", box=None, header_style="dim")
        for words, *names in SHARES:
            share = max(total.harm[name] for name in names) / total.schedules
            table.add_row(words, f"{share:.0%}")
        out.print(table)
    for failure in total.failures[:SEEDS_SHOWN]:
        out.print(f"schedule {failure.number}, seed {failure.seed}: {failure.checker}", style="red", markup=False)
        out.print(f"  {failure.detail}", markup=False, soft_wrap=True)
    if len(total.failures) > SEEDS_SHOWN:
        out.print(f"and {len(total.failures) - SEEDS_SHOWN} more")
    if not total.failures:
        out.print("0 violations", style="bold green")
    else:
        count = len(total.failures)
        out.print(f"{count} violation{'s' if count > 1 else ''}", style="bold red")


def _show_shortened(run: Run, failure: Failure) -> None:
    if run.core:
        out.print(f"again: {_command(run, failure.seed)}", markup=False)
        return
    from trueup.chaos.life import live
    from trueup.chaos.plan import plan
    from trueup.chaos.proof import prepare
    from trueup.chaos.shrink import shrink

    prepare()
    whole = live(plan(failure.seed, run.seconds))
    if whole.violation is None:
        out.print("lived again in this process it holds; the seed alone does not decide it", style="red")
        return
    with err.status("leaving out acts that do not matter"):
        short = shrink(whole)
    acts = len(whole.plan.acts)
    out.print(f"\nschedule {failure.number} shortened to {len(short.plan.acts)} of its {acts} acts", style="bold")
    _tell(short)
    keep = ",".join(str(act.number) for act in short.plan.acts) or "none"
    out.print(f"again: {_command(run, failure.seed)} --keep {keep}", markup=False, soft_wrap=True)


def _command(run: Run, seed: int) -> str:
    from trueup.chaos.plan import SHORT_S

    core = " --core" if run.core else ""
    length = f" --seconds {run.seconds:g}" if not run.core and run.seconds != SHORT_S else ""
    return f"trueup chaos --schedule {seed}{core}{length}"


# --- one ------------------------------------------------------------------------------------------------------------


def _live_one(seed: int, seconds: float, keep: frozenset[int] | None, *, core: bool, as_json: bool) -> None:
    from trueup.chaos import cores
    from trueup.chaos.life import live
    from trueup.chaos.plan import plan
    from trueup.chaos.proof import prepare

    prepare()
    if core:
        told = cores.live(seed)
        violation, steps = told.violation, len(told.inputs)
        story = [{"at": item.at, "act": type(item).__name__, "did": str(item)} for item in told.inputs]
        if not as_json:
            for item in told.inputs:
                out.print(str(item), markup=False, soft_wrap=True)
            out.print(f"{violation or 'everything held'}", style="red" if violation else "green", markup=False)
    else:
        schedule = plan(seed, seconds)
        lived = live(schedule if keep is None else schedule.keeping(keep))
        violation, steps = lived.violation, lived.steps
        story = [{"at_s": at, "number": act.number, "act": act.name, "did": did} for at, act, did in lived.story]
        if not as_json:
            _tell(lived)
    if as_json:
        found = {"checker": violation.checker, "detail": violation.detail} if violation else None
        emit({"seed": seed, "violations": int(violation is not None), "steps": steps, "found": found, "story": story})
    if violation is not None:
        raise SystemExit(EXIT_NO)


def _tell(lived: Lived) -> None:
    setting = lived.plan.setting
    model, delays = setting.fill_model, setting.delays
    out.print(
        f"requests take {delays.request_s:g} s and events {delays.event_s:g} s, up to {delays.spread_s:g} s more; "
        f"acknowledged in {model.ack_latency_ms} ms, filled in {model.fill_latency_ms}, cancelled in "
        f"{model.cancel_latency_ms}; a write takes {setting.disk_s:g} s",
        style="dim",
        soft_wrap=True,
    )
    table = Table("act", "at s", "what", "", box=None, header_style="dim")
    for at, act, did in lived.story:
        table.add_row(str(act.number), f"{at:.3f}", act.name.replace("_", " "), Text(did or "nothing to do it with"))
    out.print(table)
    if lived.violation is None:
        out.print(f"healed after {lived.virtual_s:.1f} s of virtual time and {lived.steps} inputs; everything held")
    else:
        out.print(str(lived.violation), style="red", markup=False, soft_wrap=True)
