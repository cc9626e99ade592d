"""The operator's door, and the simulator as a process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from trueup.simulator.alpaca import PortTaken, SimulatorConfig, SimulatorServer
from trueup.simulator.faults import FaultBoard, Target, WallClock


async def test_truth_is_the_books(manual: Any) -> None:
    order = await manual.buy(qty="100", type="limit", limit_price="200", client_order_id="c1")
    done = await manual.post("/sim/fill", {"order_id": order["id"], "qty": "40", "price": "199.5"})
    truth = await manual.get("/sim/truth")
    assert truth["orders"][0] == {
        "id": order["id"],
        "client_order_id": "c1",
        "symbol": "AAPL",
        "side": "buy",
        "qty": "100",
        "notional": None,
        "filled_qty": "40",
        "filled_avg_price": "199.5",
        "status": "partially_filled",
        "replaces": None,
        "replaced_by": None,
        "is_external": False,
        "order_class": "",
        "parent": None,
    }
    execution = truth["executions"][0]
    assert (execution["id"], execution["order_id"], execution["qty"]) == (done["execution_id"], order["id"], "40")
    assert truth["positions"] == {"AAPL": "40"}
    assert Decimal(truth["cash"]) == 100_000 - 40 * Decimal("199.5")
    assert truth["average_prices"] == {"AAPL": "199.5"}


async def test_an_external_order_is_on_the_account_like_any_other(bench: Any, listen: Any, until: Any) -> None:
    listener = await listen(bench)
    order = await bench.post("/sim/orders", {"symbol": "KO", "qty": 5, "side": "buy", "client_order_id": "by-hand"})
    await until(lambda: "fill" in listener.events)
    assert (await bench.get(f"/v2/orders/{order['id']}"))["client_order_id"] == "by-hand"
    assert (await bench.get("/sim/truth"))["orders"][0]["is_external"] is True
    forced = await bench.post("/sim/orders", {"symbol": "KO", "qty": 9, "side": "sell", "forced": True})
    assert forced["status"] == "filled"
    assert (await bench.get("/v2/positions/KO"))["qty"] == "-4"


async def test_bust_correct_reject_and_late_fill(manual: Any, listen: Any, until: Any) -> None:
    listener = await listen(manual)
    order = await manual.buy(type="limit", limit_price="200")
    first = await manual.post("/sim/fill", {"order_id": order["id"], "qty": "4", "price": "200"})
    second = await manual.post("/sim/fill", {"order_id": order["id"], "qty": "6", "price": "200"})
    corrected = await manual.post("/sim/correct", {"execution_id": second["execution_id"], "price": "190"})
    await manual.post("/sim/bust", {"execution_id": first["execution_id"]})
    again = await manual.http.post("/sim/bust", json={"execution_id": first["execution_id"]})
    assert again.status_code == 422
    other = await manual.buy(symbol="F", type="limit", limit_price="5")
    await manual.post("/sim/reject", {"order_id": other["id"]})
    await manual.post("/sim/fill", {"order_id": other["id"], "qty": "1", "price": "5", "forced": True})
    await until(lambda: len(listener.updates) == 10)
    assert listener.events[4:] == ["trade_correct", "trade_bust", "pending_new", "new", "rejected", "partial_fill"]
    update = listener.updates[4]
    assert (update["execution_id"], update["previous_execution_id"]) == (
        corrected["execution_id"],
        second["execution_id"],
    )
    truth = await manual.get("/sim/truth")
    assert truth["positions"] == {"AAPL": "6", "F": "1"}
    assert [order["status"] for order in truth["orders"]] == ["filled", "rejected"]
    assert {execution["id"] for execution in truth["executions"]} >= {corrected["execution_id"]}
    assert Decimal(truth["cash"]) == 100_000 - 6 * 190 - 5


async def test_adjust_splits_and_journals_with_an_activity(bench: Any) -> None:
    await bench.buy()
    await bench.post("/sim/price", {"symbol": "AAPL", "price": "200", "hold_seconds": 600})
    await bench.post("/sim/adjust", {"symbol": "AAPL", "ratio": "2"})
    await bench.post("/sim/adjust", {"symbol": "AAPL", "qty": "-3", "net_amount": "30"})
    assert (await bench.get("/v2/positions/AAPL"))["qty"] == "17"
    kinds = [item["activity_type"] for item in await bench.get("/v2/account/activities", direction="asc")]
    assert kinds == ["FILL", "SPLIT", "JNLS"]
    only = await bench.get("/v2/account/activities", category="non_trade_activity")
    assert [item["activity_type"] for item in only] == ["JNLS", "SPLIT"]


async def test_the_session_can_be_closed_and_opened_by_hand(bench: Any) -> None:
    resting = await bench.buy(type="limit", limit_price="5", symbol="F")
    assert await bench.post("/sim/session", {"open": False}) == {"is_open": False}
    assert (await bench.get(f"/v2/orders/{resting['id']}"))["status"] == "expired"
    assert (await bench.get("/v2/clock"))["is_open"] is False
    waiting = await bench.buy()
    assert waiting["status"] == "accepted"
    await bench.post("/sim/session", {"open": None})
    assert (await bench.get(f"/v2/orders/{waiting['id']}"))["status"] in {"new", "filled"}


async def test_the_fill_model_can_be_changed_while_running(bench: Any) -> None:
    model = await bench.post("/sim/model", {"is_manual": True})
    assert model["is_manual"] is True
    assert (await bench.buy())["status"] == "new"
    for wrong, right in (({"speed": 1}, "ack_latency_ms"), ({"slices_max": 0}, "from 1"), ({"is_manual": 1}, "true")):
        response = await bench.http.post("/sim/model", json=wrong)
        assert response.status_code == 422
        assert right in response.json()["message"]
    assert (await bench.get("/sim/model"))["is_manual"] is True


async def test_a_burst_makes_its_orders_at_its_pace(bench: Any) -> None:
    report = await bench.post("/sim/burst", {"symbol": "F", "orders": 40, "rate": 600})
    assert report["updates"] == 120
    # The last update is due at 120/600 of a second; a slow machine may be later, never earlier.
    assert report["seconds"] >= 0.19
    truth = await bench.get("/sim/truth")
    assert [order["id"] for order in truth["orders"]] == report["orders"]
    assert {order["status"] for order in truth["orders"]} == {"filled"}
    assert truth["positions"] == {}


WRONG = [
    ("/sim/price", {"symbol": "NOPE", "price": 1}, "this simulator has AAPL"),
    ("/sim/price", {"symbol": "F", "price": "1.001"}, "one-cent grid"),
    ("/sim/price", {"symbol": "F"}, "price must be"),
    ("/sim/fill", {}, "order_id is required"),
    ("/sim/bust", {}, "execution_id is required"),
    ("/sim/adjust", {"symbol": "F"}, "exactly one of ratio"),
    ("/sim/session", {"open": "yes"}, "true, false or null"),
    ("/sim/emit", {}, "exactly one of frame"),
    ("/sim/emit", {"target": "rest", "text": "x"}, "target must be"),
    ("/sim/emit", {"base64": "%"}, "base64 is not valid"),
    ("/sim/burst", {"symbol": "F", "orders": 0}, "orders must be a whole number from 1"),
    ("/sim/burst", {"symbol": "F", "qty": "0.5"}, "qty must be a whole number"),
]


@pytest.mark.parametrize(("path", "body", "message"), WRONG)
async def test_wrong_wishes_are_explained(bench: Any, path: str, body: dict[str, Any], message: str) -> None:
    response = await bench.http.post(path, json=body)
    assert response.status_code == 422
    assert message in response.json()["message"]


async def test_frames_show_what_was_sent_without_secrets(bench: Any, listen: Any, until: Any) -> None:
    listener = await listen(bench)
    await bench.buy()
    await until(lambda: "fill" in listener.events)
    frames = await bench.get("/sim/frames", stream="trade_updates")
    fates = [frame["fate"] for frame in frames]
    assert fates == ["received", "sent", "received", "sent", "sent", "sent", "sent"]
    assert frames[0]["body"]["data"] == {"key_id": "SIM", "secret_key": "***"}
    assert (await bench.get("/sim/status"))["trade_updates_connections"] == 1


async def test_two_simulators_with_one_seed_tell_the_same_story(start: Any) -> None:
    async def story() -> Any:
        bench = await start(seed=11)
        for symbol in ("AAPL", "F", "KO"):
            await bench.post("/sim/price", {"symbol": symbol, "price": "10", "hold_seconds": 600})
            await bench.buy(symbol=symbol, qty="7")
        truth = await bench.get("/sim/truth")
        for execution in truth["executions"]:
            del execution["at"]
        return truth

    assert await story() == await story()


def test_the_faults_of_one_seed_strike_alike() -> None:
    def strikes(seed: int) -> list[bool]:
        board = FaultBoard(seed, WallClock().now)
        board.add({"target": "trade_updates", "kind": "lose", "seconds": 600, "probability": 0.5})
        kinds = tuple(fault.kind for fault in board.all())
        return [board.strike(Target.TRADE_UPDATES, kinds, {}) is not None for _ in range(64)]

    assert strikes(5) == strikes(5) != strikes(6)
    assert 10 < sum(strikes(5)) < 54


WRONG_SETTINGS = [
    ({"port": 70000}, "port must be"),
    ({"speed": 0}, "speed must be"),
    ({"rate_limit": -1}, "rate_limit must be"),
    ({"key": ""}, "key and secret"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatorConfig(**settings)


async def test_a_taken_port_is_one_clear_line(bench: Any) -> None:
    with pytest.raises(PortTaken) as caught:
        async with SimulatorServer(SimulatorConfig(port=bench.sim.port)):
            pass
    assert f"127.0.0.1:{bench.sim.port}" in str(caught.value)
    assert "choose another port" in str(caught.value)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "trueup.simulator",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_as_a_process_it_says_when_ready_and_stops_when_asked(tmp_path: Path) -> None:
    recording = tmp_path / "bars.csv"
    recording.write_text("timestamp,symbol,open,high,low,close,volume\n2026-03-02T14:30:00Z,ACME,10,11,9,10.5,100\n")
    async with process("--port", "0", "--seed", "3", "--replay", str(recording)) as child:
        assert child.stderr is not None
        line = (await asyncio.wait_for(child.stderr.readline(), 60)).decode()
        assert "simulator ready url=http://127.0.0.1:" in line
        url = line.split("url=")[1].split()[0]
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/sim/status")).json()["symbols"] == ["ACME"]
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 60) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replay", "nowhere.csv"], "no such file"),
        (["--speed", "0"], "speed must be above 0"),
        (["--cash", "lots"], "not an amount of dollars"),
    ],
)
async def test_as_a_process_it_says_what_is_wrong(arguments: list[str], message: str) -> None:
    async with process("--port", "0", *arguments) as child:
        _, errors = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 2
        assert message in errors.decode()
        assert "Traceback" not in errors.decode()
