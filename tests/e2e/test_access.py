"""Every state of the dashboard, looked at by axe: names, roles, contrast, landmarks, in both themes and both sizes.

The states come from the dashboard's own stand-in server, since most of them are hard to hold still in a live one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.e2e.conftest import PATIENCE_S, free_port, until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
MOCK = ROOT / "web/src/testing/mock-server.mjs"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
UNDECIDED = frozenset({"color-contrast"})
"""What axe may leave open: it does not compute the ground under text that hatching or the open drawer covers."""
PATIENCE_MS = PATIENCE_S * 1000
LOOKS = {"dark-desk": ("dark", 1440, 900), "light-desk": ("light", 1440, 900), "light-phone": ("light", 390, 844)}
PICTURES = Path(os.environ["TRUEUP_STATES"]) if "TRUEUP_STATES" in os.environ else None
"""Where a picture of every state is kept for those who want to look; without it none is kept."""


class Stage:
    """A page before the stand-in server, and the scenes that it can play."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open(self, *scenes: str) -> None:
        """A fresh page in which these scenes have been played, one after the other."""
        self.play("healthy")
        self.page.goto(self.url)
        expect(self.page.get_by_test_id("connection")).to_contain_text("Live", timeout=PATIENCE_MS)
        for scene in scenes:
            self.play(scene)

    def play(self, scene: str) -> None:
        httpx.post(f"{self.url}/scene/{scene}", timeout=10).raise_for_status()

    def sees(self, test_id: str) -> None:
        expect(self.page.get_by_test_id(test_id).first).to_be_visible(timeout=PATIENCE_MS)

    def reads(self, text: str) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible(timeout=PATIENCE_MS)

    def open_order(self) -> None:
        self.page.locator('[data-order-id="o-103"] [data-opener]').first.click()
        self.sees("timeline-row")


def loading(stage: Stage) -> None:
    stage.page.route_web_socket("**/ws**", lambda _: None)
    stage.page.goto(stage.url)
    expect(stage.page.get_by_test_id("connection")).to_be_visible(timeout=PATIENCE_MS)


def healthy(stage: Stage) -> None:
    stage.open()
    stage.sees("order-row")


def empty(stage: Stage) -> None:
    stage.open("empty")
    stage.reads("Belief and the broker's books have not differed")


def gap_open(stage: Stage) -> None:
    stage.open("gap")
    stage.sees("gap-banner")


def gap_healed(stage: Stage) -> None:
    stage.open("gap", "heal")
    stage.sees("heal-summary")


def differing(stage: Stage) -> None:
    stage.open("drift")
    stage.reads("1 open")


def every_difference(stage: Stage) -> None:
    stage.open("drift")
    stage.page.get_by_role("button", name="All ever").click()
    stage.reads("ended by")


def no_history(stage: Stage) -> None:
    stage.open("busy")
    stage.page.get_by_role("button", name="All ever").click()
    stage.reads("The journal could not be asked.")


def tripped(stage: Stage) -> None:
    stage.open("breaker")
    stage.reads("vix_spike")


def alerted(stage: Stage) -> None:
    stage.open("alerts")
    stage.reads("Day loss 2.1% exceeds 2.0% limit")


def to_approve(stage: Stage) -> None:
    stage.open("approval")
    stage.reads("ml_signal")


def about_to_kill(stage: Stage) -> None:
    stage.open()
    stage.page.get_by_test_id("kill-open").first.click()
    stage.reads("Stop all trading?")


def killed(stage: Stage) -> None:
    stage.open("kill")
    expect(stage.page.get_by_test_id("trading-state")).to_contain_text("Killed", timeout=PATIENCE_MS)


def refused_ticket(stage: Stage) -> None:
    stage.open()
    stage.page.get_by_label("Symbol").fill("NOPE")
    stage.page.get_by_label("Quantity").fill("1")
    stage.page.get_by_test_id("ticket-submit").click()
    stage.reads("is not a symbol that the broker knows")


def disconnected(stage: Stage) -> None:
    doors: list[Any] = []

    def guard(door: Any) -> None:
        doors.append(door)
        if len(doors) == 1:
            door.connect_to_server()

    stage.page.route_web_socket("**/ws**", guard)
    stage.open()
    doors[0].close()
    expect(stage.page.get_by_test_id("connection")).to_contain_text("Reconnecting", timeout=PATIENCE_MS)


def a_story(stage: Stage) -> None:
    stage.open()
    stage.open_order()
    stage.sees("believed")


def a_story_in_its_gap(stage: Stage) -> None:
    a_story(stage)
    for _ in range(3):
        stage.page.get_by_role("button", name="Earlier change").click()
    expect(stage.page.get_by_test_id("believed")).to_have_attribute("data-agrees", "false", timeout=PATIENCE_MS)


def a_story_and_a_wrong_time(stage: Stage) -> None:
    a_story(stage)
    stage.page.get_by_test_id("believed-time").fill("noon")
    stage.page.keyboard.press("Enter")
    stage.reads("Write a time such as")


def a_story_without_looking_back(stage: Stage) -> None:
    stage.open("busy")
    stage.open_order()
    stage.reads("The journal could not be asked.")


STATES: tuple[Callable[[Stage], None], ...] = (
    loading,
    healthy,
    empty,
    gap_open,
    gap_healed,
    differing,
    every_difference,
    no_history,
    tripped,
    alerted,
    to_approve,
    about_to_kill,
    killed,
    refused_ticket,
    disconnected,
    a_story,
    a_story_in_its_gap,
    a_story_and_a_wrong_time,
    a_story_without_looking_back,
)


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    """The address of the dashboard's stand-in server, a process of its own."""
    node = shutil.which("node")
    assert node, "no node: it builds the dashboard too; see scripts/need.sh"
    port = free_port()
    process = subprocess.Popen([node, str(MOCK)], env={**os.environ, "PORT": str(port)}, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until("the stand-in answers", lambda: httpx.get(url, timeout=5).status_code == 200)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def stage(browser: Browser, stand_in: str) -> Iterator[Stage]:
    page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce", color_scheme="dark")
    yield Stage(page, stand_in)
    page.close()


def examined(page: Page) -> tuple[list[str], set[str]]:
    """What axe finds wrong, each with its place, and the rules that it could not decide."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"runOnly": RULES, "resultTypes": ["violations", "incomplete"]}
    found = page.evaluate("options => axe.run(document, options)", options)
    assert found["passes"], "axe has looked at nothing"
    wrong = [
        f"{rule['id']} at {node['target']}: {' '.join(node['failureSummary'].split())}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    return wrong, {rule["id"] for rule in found["incomplete"]}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing(stage: Stage, state: Callable[[Stage], None]) -> None:
    state(stage)
    faults = []
    for look, (theme, width, height) in LOOKS.items():
        stage.page.set_viewport_size({"width": width, "height": height})
        stage.page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        wrong, undecided = examined(stage.page)
        faults += [f"{look}: {line}" for line in wrong]
        faults += [f"{look}: undecided: {rule}" for rule in undecided - UNDECIDED]
        if PICTURES is not None:
            PICTURES.mkdir(parents=True, exist_ok=True)
            stage.page.screenshot(path=PICTURES / f"{state.__name__}-{look}.png")
    assert not faults, "\n".join(faults)


def test_axe_would_find_what_is_wrong(stage: Stage) -> None:
    stage.open()
    stage.page.evaluate(
        """() => document.querySelector("main").insertAdjacentHTML("beforeend",
            '<p style="position: fixed; inset: 60px auto auto 0; z-index: 99; color: #444; background: #222">dim</p>' +
            '<img src="/favicon.svg"><button></button>')"""
    )
    wrong, _ = examined(stage.page)
    assert {line.split(" ", 1)[0] for line in wrong} >= {"image-alt", "button-name", "color-contrast"}
