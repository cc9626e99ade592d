"""The description at /openapi.json: valid, and true of what is really answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from tests.api.house import House

from trueup.core.model import Quote, Symbol

LIMIT = {"symbol": "AAPL", "side": "BUY", "quantity": 10, "type": "LIMIT", "limit_price": "178.42"}


@pytest.fixture
async def described(client: httpx.AsyncClient) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.get("/openapi.json")).json()
    return answer


async def test_it_is_valid(described: dict[str, Any]) -> None:
    validate(described)


async def test_it_names_every_route(described: dict[str, Any]) -> None:
    assert {(method, path) for path, item in described["paths"].items() for method in item} == {
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/api/health"),
        ("get", "/api/snapshot"),
        ("get", "/api/orders"),
        ("post", "/api/orders"),
        ("get", "/api/orders/{order_id}"),
        ("patch", "/api/orders/{order_id}"),
        ("delete", "/api/orders/{order_id}"),
        ("post", "/api/reconcile"),
        ("post", "/api/kill"),
        ("post", "/api/resume"),
        ("get", "/api/positions"),
        ("get", "/api/portfolio"),
        ("get", "/api/executions"),
        ("get", "/api/gaps"),
        ("get", "/api/drifts"),
        ("get", "/api/sessions"),
        ("delete", "/api/sessions/{session_id}"),
    }


async def test_amounts_are_described_as_numbers(described: dict[str, Any]) -> None:
    quantity = described["components"]["schemas"]["OrderView"]["properties"]["quantity"]
    assert quantity["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert described["components"]["schemas"]["PositionView"]["properties"]["quantity"]["type"] == "number"
    sent = described["components"]["schemas"]["SubmitBody"]["properties"]["quantity"]
    assert {part["type"] for part in sent["anyOf"]} == {"number", "string"}


def promised(described: dict[str, Any], method: str, template: str, answer: httpx.Response) -> dict[str, Any]:
    responses = described["paths"][template][method]["responses"]
    assert str(answer.status_code) in responses, f"{method} {template} does not promise {answer.status_code}"
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    return {**schema, "components": described["components"]}


async def test_what_is_answered_is_what_is_promised(
    house: House, client: httpx.AsyncClient, described: dict[str, Any]
) -> None:
    symbol = Symbol("AAPL")
    house.quotes.newest[symbol] = Quote(symbol=symbol, at=house.now, bid=Decimal("178.40"), ask=Decimal("178.44"))
    checked = set()

    async def ask(
        method: str, template: str, status: int, *, order_id: str = "", session_id: str = "", **how: Any
    ) -> Any:
        answer = await client.request(method, template.format(order_id=order_id, session_id=session_id), **how)
        assert answer.status_code == status, answer.text
        schema = promised(described, method.lower(), template, answer)
        Draft202012Validator(schema).validate(answer.json())
        checked.add((method.lower(), template))
        return answer.json()

    one = "/api/orders/{order_id}"
    first = (await ask("POST", "/api/orders", 201, json=LIMIT | {"client_order_id": "mine"}))["id"]
    await ask("POST", "/api/orders", 200, json=LIMIT | {"client_order_id": "mine"})
    await ask("POST", "/api/orders", 409, json=LIMIT | {"client_order_id": "mine", "quantity": 3})
    await ask("POST", "/api/orders", 422, json=LIMIT | {"type": "MARKET"})
    await ask("POST", "/api/orders", 422, json=LIMIT | {"side": "HOLD"})
    await ask("PATCH", one, 409, order_id=first, json={"quantity": 5})
    await house.fill(await house.accept())
    second = (await ask("POST", "/api/orders", 201, json=LIMIT))["id"]
    await house.accept()
    await ask("PATCH", one, 202, order_id=second, json={"quantity": 12})
    await ask("PATCH", one, 404, order_id="nobody", json={"quantity": 12})
    await ask("PATCH", one, 422, order_id=second, json={"quantity": "x"})
    await ask("DELETE", one, 202, order_id=second)
    await ask("DELETE", one, 409, order_id=first)
    await ask("DELETE", one, 404, order_id="nobody")
    await house.feed(house.snapshot())  # its positions lack the fill: a drift to show
    await ask("POST", "/api/reconcile", 202)
    await house.lose_feed()
    for path in ("health", "snapshot", "orders", "positions", "portfolio", "executions", "gaps", "drifts"):
        told = await ask("GET", f"/api/{path}", 200)
        assert told, f"/api/{path} is empty: nothing was checked"
    await ask("GET", "/api/orders", 422, params={"limit": 0})
    await ask("GET", one, 200, order_id=first)
    await ask("GET", one, 404, order_id="nobody")
    await ask("GET", "/api/sessions", 200)
    await ask("DELETE", "/api/sessions/{session_id}", 404, session_id="none")
    await ask("GET", "/healthz", 200)
    await ask("GET", "/readyz", 503)
    await ask("POST", "/api/kill", 200, json={"reason": "enough"})
    await ask("POST", "/api/resume", 422, json={})
    await ask("POST", "/api/resume", 200, json={"reason": "it was nothing"})
    assert checked == {(method, path) for path, item in described["paths"].items() for method in item}
