"""Schedules hold the harm that they promise, a violation is shortened and found again, and runs count alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trueup.chaos import proof
from trueup.chaos.life import Lived, live
from trueup.chaos.plan import MEDDLING, WEIGHTS, Plan, plan, schedule_seed
from trueup.chaos.proof import Run, Tally, prove
from trueup.chaos.shrink import shrink
from trueup.chaos.violation import Violation
from trueup.cli import app
from trueup.core import transition
from trueup.core.orders import Leg, Order

RUN = Run(seed=11, schedules=60)


def total(run: Run, jobs: int) -> Tally:
    tally = Tally()
    for part in prove(run, jobs):
        tally.add(part)
    return tally


@pytest.fixture(scope="module")
def lived() -> Tally:
    return total(RUN, 1)


def test_nothing_is_violated(lived: Tally) -> None:
    assert not lived.failures
    assert lived.schedules == RUN.schedules
    assert lived.steps > 30 * RUN.schedules


def test_the_harm_is_really_there(lived: Tally) -> None:
    """A storm that never breaks anything would prove nothing: at least this share of schedules has each of these."""
    wanted = {
        "crash": 0.3,
        "stop": 0.1,
        "FeedLost": 0.4,
        "SnapshotFailed": 0.2,
        "submit unknown": 0.08,
        "not found": 0.1,
        "fills_missed_by_stream": 0.4,
        "fill learned by asking": 0.4,
        "Kill": 0.2,
        "bust": 0.15,
        "correct": 0.1,
        "drift": 0.5,
        "slow snapshot": 0.5,
        "stranger_cancels": 0.2,
        "stranger_replaces": 0.2,
    }
    shares = {name: lived.harm[name] / lived.schedules for name in wanted}
    assert not {name: share for name, share in shares.items() if share < wanted[name]}, shares
    assert min(lived.harm["write lost"], lived.harm["write unanswered"]) > 0, "no process died in the middle of a write"


def test_every_kind_of_act_happens(lived: Tally) -> None:
    assert not {*WEIGHTS, *MEDDLING} - {name for name, count in lived.harm.items() if count}


def test_meddling_is_drawn_apart_and_leaves_all_else_as_it_was() -> None:
    for seed in range(50):
        whole = plan(seed)
        rest = whole.plain.acts
        assert not {act.name for act in rest} & set(MEDDLING)
        assert [act.number for act in rest] == list(range(1, len(rest) + 1))
        added = [act for act in whole.acts if act not in rest]
        assert {act.number for act in added} == set(range(len(rest) + 1, len(whole.acts) + 1))
        assert [act.at_s for act in whole.acts] == sorted(act.at_s for act in whole.acts)
    long = plan(7, 120.0)
    instants = {act.at_s for act in long.plain.acts}
    together = [act.at_s in instants for act in long.acts if act.name in MEDDLING]
    assert 0.2 < sum(together) / len(together) < 0.8


def test_the_number_of_processes_changes_no_count(lived: Tally) -> None:
    again = total(RUN, 2)
    assert (again.schedules, again.steps, again.harm) == (lived.schedules, lived.steps, lived.harm)
    assert again.digest == lived.digest != 0


def test_no_hash_seed_changes_what_is_believed() -> None:
    told = []
    for hash_seed in ("1", "2"):
        command = [
            sys.executable,
            "-m",
            "trueup",
            "chaos",
            "--schedules",
            "40",
            "--seed",
            "11",
            "--jobs",
            "1",
            "--json",
        ]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.append(json.loads(done.stdout))
    assert told[0]["digest"] == told[1]["digest"]
    assert told[0]["harm"] == told[1]["harm"]


def test_a_run_can_be_split_and_goes_on_where_it_was_left(lived: Tally) -> None:
    parts = total(Run(seed=11, schedules=25), 1)
    parts.add(total(Run(seed=11, schedules=35, first=25), 1))
    assert (parts.schedules, parts.steps, parts.harm) == (lived.schedules, lived.steps, lived.harm)


def test_no_process_is_left_behind_by_a_run_that_is_killed() -> None:
    command = [sys.executable, "-m", "trueup", "chaos", "--schedules", "100000", "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            workers = eventually(lambda: [name for name in children_of(run.pid) if "spawn_main" in command_of(name)], 2)
        finally:
            run.kill()
    eventually(lambda: [worker for worker in workers if "spawn_main" not in command_of(worker)], 2)


def eventually(look: Callable[[], list[int]], count: int) -> list[int]:
    """What it finds once it finds so many; gives up after a minute."""
    for _ in range(1200):
        found = look()
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} of {count}")


def children_of(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(name) for name in listed.read_text().split()] if listed.exists() else []


def command_of(process: int) -> str:
    """Empty for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def test_schedules_have_seeds_of_their_own() -> None:
    seeds = {schedule_seed(seed, number) for seed in range(20) for number in range(500)}
    assert len(seeds) == 20 * 500


# --- a violation ---


@pytest.fixture
def no_bust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Belief that adopts what strangers ordered, and takes their quantity for filled once it is cancelled."""
    sound = transition._after_report

    def faulty(*arguments: object) -> Order:
        order: Order = sound(*arguments)  # type: ignore[arg-type]
        leg = arguments[3]
        assert isinstance(leg, Leg)
        if order.origin == "external" and leg.status.name == "CANCELED" and not leg.filled and leg.quantity:
            leg.filled = leg.quantity
        return order

    monkeypatch.setattr(transition, "_after_report", faulty)


def first_failure(find: Callable[[Plan], Lived] = live) -> Lived:
    for number in range(50):
        lived = find(plan(schedule_seed(1, number)))
        if lived.violation is not None:
            return lived
    raise AssertionError("the planted fault was never met")


@pytest.mark.usefixtures("no_bust")
def test_a_violation_is_shortened_to_the_acts_that_matter() -> None:
    failed = first_failure()
    short = shrink(failed)
    assert failed.violation is not None
    assert short.violation is not None
    assert short.violation.checker == failed.violation.checker
    assert len(short.plan.acts) <= 3 < len(failed.plan.acts)
    assert "stranger" in {act.name for act in short.plan.acts}
    for act in short.plan.acts:  # none of them can be spared
        without = {other.number for other in short.plan.acts} - {act.number}
        again = live(failed.plan.keeping(without)).violation
        assert again is None or again.checker != failed.violation.checker


@pytest.mark.usefixtures("no_bust")
def test_the_printed_command_finds_the_same_violation_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "prepare", lambda: None)
    answer = CliRunner().invoke(app, ["chaos", "--schedules", "50", "--stop", "--jobs", "1"], env={"COLUMNS": "250"})
    assert answer.exit_code == 1
    assert "violation" in answer.output
    (command,) = [line for line in answer.output.splitlines() if line.startswith("again: ")]
    words = command.removeprefix("again: trueup ").split()
    assert "--keep" in words
    again = CliRunner().invoke(app, [*words, "--json"])
    assert again.exit_code == 1
    told = json.loads(again.output)
    assert told["found"]["checker"] in answer.output
    assert len(told["story"]) <= 3


def test_an_error_of_the_house_is_a_violation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def falls(*arguments: object) -> None:
        raise KeyError("no such order")

    monkeypatch.setattr(transition, "_follow_chain", falls)
    violation = first_failure().violation
    assert violation is not None
    assert violation.checker == "no KeyError ends the house"


def test_only_a_life_that_failed_can_be_shortened() -> None:
    sound = live(plan(schedule_seed(1, 0)).keeping([]))
    assert sound.violation is None
    with pytest.raises(ValueError, match="failed"):
        shrink(sound)


def test_two_violations_are_the_same_when_the_same_checker_spoke() -> None:
    def live_by_count(shorter: Plan) -> Lived:
        numbers = {act.number for act in shorter.acts}
        checker = "a" if {3, 17} <= numbers else ("b" if 17 in numbers else "")
        violation = Violation(checker, "seen") if checker else None
        return Lived(shorter, violation, 0, sound.harm, [], 0.0, sound.journal, "")

    whole = plan(schedule_seed(1, 3))
    sound = live(whole.keeping([]))
    assert len(whole.acts) > 17
    short = shrink(live_by_count(whole), live_by_count)
    assert [act.number for act in short.plan.acts] == [3, 17]


# --- the command ---


def test_the_answer_for_programs_has_its_names() -> None:
    answer = CliRunner().invoke(app, ["chaos", "--schedules", "3", "--seed", "4", "--jobs", "1", "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.output)
    assert {"schedules", "seed", "violations", "steps", "seconds", "failed_seeds"} <= set(told)
    assert (told["schedules"], told["seed"], told["violations"], told["failed_seeds"]) == (3, 4, 0, [])
    assert told["steps"] > 0


def test_the_core_alone_is_lived_by_the_same_command() -> None:
    answer = CliRunner().invoke(app, ["chaos", "--core", "--schedules", "200", "--jobs", "1", "--json"])
    told = json.loads(answer.output)
    assert (told["schedules"], told["violations"], told["core"]) == (200, 0, True)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--keep", "3"], "--schedule"),
        (["--schedule", "5", "--keep", "three"], "act numbers"),
        (["--core", "--seconds", "3"], "--seconds"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(words: list[str], field: str) -> None:
    answer = CliRunner().invoke(app, ["chaos", *words])
    assert answer.exit_code != 0
    assert field in str(answer.exception) + answer.output
