"""`trueup gateway`, two of them before one runtime and one Redis, as real processes: people log in, act and leave."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import Process, Run, free_port, until
from tests.cli.test_run import KEYS, Start
from tests.redis_server import RedisServer

from trueup.bootstrap import user_line
from trueup.core.commands import Kill, SubmitOrder
from trueup.journal.sqlite import FILE_NAME, SqliteJournal

pytestmark = pytest.mark.external_service

GATEWAY_TOKEN = "only-gateways-know-this"


@pytest.fixture
def exchange(start: Start) -> Process:
    """A running simulated exchange."""
    return start("simulate", "--port", "0", "--seed", "11", "--rate-limit", "0")


def answers(client: httpx.Client, url: str) -> bool:
    return client.get(url).status_code == 200


def refuses(url: str, headers: dict[str, str]) -> bool:
    return httpx.get(url, headers=headers).status_code == 401


def test_a_person_logs_in_at_one_gateway_and_acts_at_another(
    exchange: Process, start: Start, redis_server: RedisServer, tmp_path: Path
) -> None:
    people = tmp_path / "people"
    people.write_text(user_line("oleg", "operator", "touch and look"), encoding="utf-8")
    people.chmod(0o600)
    shared = {"TRUEUP_REDIS_URL": redis_server.url, "TRUEUP_GATEWAY_TOKEN": GATEWAY_TOKEN}
    given = ["--alpaca-url", exchange.ready["url"], "--state", str(tmp_path / "s"), "--port", str(free_port())]
    runtime = start("run", *given, **shared, **KEYS)
    url = runtime.ready["url"]
    # The runtime knows no people: only gateways get in.
    assert httpx.get(f"{url}/api/orders").status_code == 401
    to_runtime = ["--runtime-url", url]
    one, other = (
        start("gateway", "--port", str(free_port()), *to_runtime, TRUEUP_USERS=str(people), **shared).ready["url"]
        for _ in range(2)
    )
    with httpx.Client() as oleg:
        assert oleg.post(f"{one}/login", json={"name": "oleg", "password": "touch and look"}).status_code == 200
        for base in (one, other):
            until(partial(answers, oleg, f"{base}/readyz"), told="a snapshot")
        order = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "type": "LIMIT", "limit_price": 1}
        until(lambda: oleg.post(f"{other}/api/orders", json=order).status_code == 201, told="an order to be allowed")
        killed = oleg.post(f"{one}/api/kill", json={"reason": "enough"}).json()
        assert (killed["operator"], killed["asked_by"]) == ("human", "oleg")
        cookie = {"Cookie": f"trueup_session={oleg.cookies['trueup_session']}"}
        assert oleg.post(f"{other}/logout").status_code == 204
        for base in (one, other):
            until(partial(refuses, f"{base}/api/orders", cookie), told="the end of the session")
    runtime.end()
    journal = SqliteJournal(tmp_path / "s" / FILE_NAME, read_only=True)
    wishes = [entry.input for entry in journal.read(0) if isinstance(entry.input, SubmitOrder | Kill)]
    journal.close()
    assert isinstance(wishes[-1], Kill)
    assert {each.asked_by for each in wishes} == {"oleg"}


def test_a_gateways_own_token_opens_no_gateway(trueup: Run, redis_server: RedisServer) -> None:
    shared = {"TRUEUP_REDIS_URL": redis_server.url, "TRUEUP_GATEWAY_TOKEN": GATEWAY_TOKEN}
    answer = trueup("gateway", "--host", "0.0.0.0", "--port", str(free_port()), **shared)
    assert answer.code == 2
    assert "TRUEUP_TOKEN" in answer.err


def test_one_credential_for_people_and_gateways_is_refused(trueup: Run, tmp_path: Path) -> None:
    both = {"TRUEUP_TOKEN": GATEWAY_TOKEN, "TRUEUP_GATEWAY_TOKEN": GATEWAY_TOKEN}
    answer = trueup("run", "--alpaca-url", "http://127.0.0.1:9", "--state", str(tmp_path / "s"), **both, **KEYS)
    assert answer.code == 2
    assert "must not be the token" in answer.err
