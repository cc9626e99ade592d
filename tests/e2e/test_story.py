"""The story that trueup exists for, in a real browser: orders flow, the stream is cut, the gap shows, and it heals."""

from __future__ import annotations

import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.e2e.conftest import PATIENCE_S, Demo, until

pytestmark = pytest.mark.e2e

PATIENCE_MS = PATIENCE_S * 1000
PICTURES = Path(os.environ["TRUEUP_PICTURES"]) if "TRUEUP_PICTURES" in os.environ else None
"""Where `make pictures` keeps the screenshots of the docs; without it none is kept."""


def picture(page: Page, name: str) -> None:
    if PICTURES is not None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png")


def shown_positions(page: Page) -> dict[str, Decimal]:
    rows = page.get_by_test_id("position-row").all()
    return {
        row.get_attribute("data-symbol") or "": Decimal(row.get_attribute("data-quantity") or "nan") for row in rows
    }


def books(truth: dict[str, Any]) -> dict[str, Decimal]:
    return {symbol: Decimal(quantity) for symbol, quantity in truth["positions"].items() if Decimal(quantity)}


def belief_is_the_truth(demo: Demo) -> bool:
    """Orders, positions and cash as trueup tells them, against the exchange's own; both read while nothing moves."""
    before = demo.truth()
    orders = {row["broker_order_id"]: row for row in demo.api("/api/orders")}
    positions = {row["symbol"]: Decimal(str(row["quantity"])) for row in demo.api("/api/positions")}
    cash = Decimal(str(demo.api("/api/portfolio")["cash"]))
    after = demo.truth()
    if before["orders"] != after["orders"]:
        return False
    if {symbol: quantity for symbol, quantity in positions.items() if quantity} != books(after):
        return False
    if cash != Decimal(after["cash"]).quantize(Decimal("0.01")):
        return False
    return all(
        order["id"] in orders and Decimal(str(orders[order["id"]]["filled_quantity"])) == Decimal(order["filled_qty"])
        for order in after["orders"]
    )


def test_orders_flow_a_cut_is_shown_and_healed(demo: Demo, page: Page) -> None:
    page.goto(demo.url)
    expect(page.get_by_test_id("connection")).to_contain_text("Live", timeout=PATIENCE_MS)
    expect(page.get_by_test_id("trading-state")).to_contain_text("Active", timeout=PATIENCE_MS)

    # orders flow, fills arrive by stream, the portfolio moves
    stream_fill = page.locator('[data-testid="fill-row"][data-source="stream"]')
    expect(stream_fill.first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator('[data-testid="order-row"][data-status="FILLED"]').first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_test_id("position-row").first).to_be_visible(timeout=PATIENCE_MS)
    picture(page, "healthy")

    # an order that rests at the exchange, from another client of the account; adopted and shown
    order = demo.exchange(
        "/sim/orders", {"symbol": "MSFT", "side": "buy", "qty": "30", "type": "limit", "limit_price": "1"}
    )
    ours = until("it is adopted", lambda: demo.api(f"/api/orders/{order['id']}")["order"]["id"])
    expect(page.locator(f'[data-testid="order-row"][data-order-id="{ours}"]')).to_be_visible(timeout=PATIENCE_MS)

    # the cut: the exchange goes on filling, nobody is told
    demo.exchange("/sim/faults", {"target": "trade_updates", "kind": "drop", "seconds": 9})
    demo.exchange("/sim/fill", {"order_id": order["id"], "qty": "20", "price": "431.20"})
    expect(page.get_by_test_id("gap-banner")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_test_id("trading-state")).to_contain_text("Reduce only", timeout=PATIENCE_MS)
    expect(page.get_by_test_id("broker-events-status")).to_contain_text("Down", timeout=PATIENCE_MS)
    denied = demo_submit_is_denied(demo)
    assert denied["error"]["code"] == "entries_gated"
    # polling goes on, and finds the fill while the stream is still gone
    polled = page.locator('[data-testid="fill-row"][data-missed="true"][data-source="poll"]', has_text="20 MSFT")
    expect(polled.first).to_be_visible(timeout=PATIENCE_MS)
    until("truth lag passes 4 s", lambda: (demo.api("/api/health")["truth_lag_s"] or 0) > 4)
    picture(page, "gap-open")
    demo.exchange("/sim/fill", {"order_id": order["id"], "qty": "10", "price": "431.25"})

    # the heal: reconnected, reconciled, what was missed is told with how it was learned
    expect(page.get_by_test_id("heal-summary")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_test_id("gap-banner")).to_be_hidden(timeout=PATIENCE_MS)
    expect(page.get_by_test_id("trading-state")).to_contain_text("Active", timeout=PATIENCE_MS)
    expect(page.get_by_test_id("broker-reconnects")).to_contain_text("1", timeout=PATIENCE_MS)
    missed = page.locator('[data-testid="fill-row"][data-missed="true"]')
    expect(missed.first).to_be_attached(timeout=PATIENCE_MS)
    # of the strategy's own orders too: a cancel that comes too late in the gap finds its fill by a look-up
    sources = {row.get_attribute("data-source") for row in missed.all()}
    assert sources <= {"poll", "reconcile", "lookup", "reply"}, "what the stream missed was learned by asking"
    gap = demo.api("/api/gaps")[0]
    assert gap["closed_at"] is not None
    assert gap["missed"] >= 1
    assert sum(gap["learned_by"].values()) == gap["missed"]
    detail = demo.api(f"/api/orders/{order['id']}")
    assert detail["order"]["filled_quantity"] == 30
    assert [view["quantity"] for view in detail["executions"]] == [20, 10]
    assert detail["executions"][0]["source"] == "poll"
    assert detail["executions"][1]["source"] in {"poll", "reconcile"}, "nobody asked for this order by its name"
    assert all(view["missed_by_stream"] and not view["inferred"] for view in detail["executions"])
    picture(page, "healed")

    # zero drift: belief is the exchange's books
    until("belief equals the exchange's books", lambda: belief_is_the_truth(demo))
    assert demo.api("/api/health")["open_drifts"] == 0
    until("the page shows the same positions", lambda: shown_positions(page) == books(demo.truth()))


def demo_submit_is_denied(demo: Demo) -> Any:
    """An entry while the gap is open."""
    answer = httpx.post(
        f"{demo.url}/api/orders", json={"symbol": "GOOGL", "side": "BUY", "quantity": 1, "type": "MARKET"}, timeout=10
    )
    assert answer.status_code == 422, answer.text
    return answer.json()


def test_a_fill_tells_its_story_and_an_order_goes_out_by_hand(demo: Demo, page: Page) -> None:
    page.goto(demo.url)
    expect(page.get_by_test_id("connection")).to_contain_text("Live", timeout=PATIENCE_MS)
    page.get_by_label("Symbol").fill("AAPL")
    page.get_by_label("Quantity").fill("2")
    page.get_by_test_id("ticket-submit").click()
    order = until(
        "the order of the ticket is filled",
        lambda: next(
            (
                row
                for row in demo.api("/api/orders")
                if row["origin"] == "operator" and row["quantity"] == 2 and row["status"] == "FILLED"
            ),
            None,
        ),
    )
    row = page.locator(f'[data-testid="order-row"][data-order-id="{order["id"]}"]')
    expect(row).to_be_visible(timeout=PATIENCE_MS)
    row.click()
    expect(page.get_by_test_id("order-drawer")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator('[data-testid="timeline-row"][data-source="stream"]').first).to_be_visible(timeout=PATIENCE_MS)
    assert page.get_by_test_id("timeline-row").count() >= 3
    expect(page.get_by_test_id("believed")).to_have_attribute("data-filled", "2", timeout=PATIENCE_MS)
    picture(page, "timeline")


def scrub_to(page: Page, instant: float) -> None:
    """Move the scrubber as a hand does, to an instant in milliseconds."""
    page.get_by_test_id("scrub").evaluate(
        """(slider, instant) => {
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, String(instant));
            slider.dispatchEvent(new Event("input", {bubbles: true}));
        }""",
        instant,
    )


def millis(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1000


def test_looking_back_into_a_gap_shows_what_was_believed_in_it(demo: Demo, page: Page) -> None:
    page.goto(demo.url)
    expect(page.get_by_test_id("connection")).to_contain_text("Live", timeout=PATIENCE_MS)
    order = demo.exchange(
        "/sim/orders", {"symbol": "MSFT", "side": "buy", "qty": "30", "type": "limit", "limit_price": "1"}
    )
    ours = until("it is adopted", lambda: demo.api(f"/api/orders/{order['id']}")["order"]["id"])

    # nobody is told: the stream is cut, and questions are not answered either; the exchange fills
    demo.exchange("/sim/faults", {"target": "trade_updates", "kind": "drop", "seconds": 8})
    demo.exchange("/sim/faults", {"target": "rest", "kind": "error", "seconds": 6})
    demo.exchange("/sim/fill", {"order_id": order["id"], "qty": "20", "price": "431.20"})
    expect(page.get_by_test_id("gap-banner")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_test_id("heal-summary")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_test_id("gap-banner")).to_be_hidden(timeout=PATIENCE_MS)

    # the order's story: the fill came late, and not by stream
    page.locator(f'[data-testid="order-row"][data-order-id="{ours}"] [data-opener]').click()
    fill = page.get_by_test_id("timeline-row").filter(has_text="20 @ 431.20").last
    expect(fill).to_contain_text("late", timeout=PATIENCE_MS)
    assert fill.get_attribute("data-source") in {"poll", "reconcile"}
    assert page.locator('[data-testid="timeline-row"] strong', has_text="Status").count() == 0
    expect(page.get_by_test_id("scrub")).to_be_visible(timeout=PATIENCE_MS)
    believed = page.get_by_test_id("believed")

    def told() -> Any:
        story = demo.api(f"/api/explain/{ours}")
        return story if story["beliefs"][-1]["filled_quantity"] == 20 else None

    story = until("the journal tells the fill", told)
    late = next(line for line in story["detail"]["timeline"] if line["filled_after"] == 20)
    assert late["broker_at"] < late["arrived_at"]
    expect(believed).to_have_attribute("data-filled", "20", timeout=PATIENCE_MS)

    # into the gap: the old belief, and beside it what the broker knew already
    scrub_to(page, (millis(late["broker_at"]) + millis(late["arrived_at"])) / 2)
    expect(believed).to_have_attribute("data-filled", "0", timeout=PATIENCE_MS)
    expect(believed).to_have_attribute("data-agrees", "false", timeout=PATIENCE_MS)
    expect(page.get_by_test_id("broker-filled")).to_have_text("20", timeout=PATIENCE_MS)
    expect(page.get_by_test_id("ahead").first).to_contain_text("we knew", timeout=PATIENCE_MS)
    expect(fill).to_have_attribute("data-later", "true", timeout=PATIENCE_MS)
    picture(page, "believed-in-the-gap")

    # and every difference that there ever was, out of the same journal
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All ever").click()
    ended = page.locator('[data-testid="drift-row"]', has_text=ours).filter(has_text="ended by")
    expect(ended.first).to_be_visible(timeout=PATIENCE_MS)


def test_a_kill_stops_all_but_cancels(demo: Demo, page: Page) -> None:
    page.goto(demo.url)
    expect(page.get_by_test_id("connection")).to_contain_text("Live", timeout=PATIENCE_MS)
    page.get_by_test_id("kill-open").click()
    page.keyboard.type("KILL")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("trading-state")).to_contain_text("Killed", timeout=PATIENCE_MS)
    picture(page, "killed")
    assert demo.api("/api/health")["trading_state"] == "KILLED"
    until("nothing works any more", lambda: not [row for row in demo.api("/api/orders?status=working")])
    count = len(demo.truth()["orders"])
    page.reload()
    expect(page.get_by_test_id("trading-state")).to_contain_text("Killed", timeout=PATIENCE_MS)
    assert len(demo.truth()["orders"]) == count
