"""The gateway behind a proxy that ends TLS: who is who, which cookie, and that the fast path stays."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.api.house import House, served
from tests.api.test_fanout import settled
from tests.api.test_logins import OLEG, USERS
from tests.api.test_websocket import alert, hear
from tests.redis_server import Certificate, certificate
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.external_service

NAME = "dashboard.example"


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy(port: int, shown: Certificate) -> AsyncIterator[int]:
    """Ends TLS, says so in front of the first request of a connection, and passes everything else on as it is."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown.file, shown.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ahead_reader, ahead_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            first, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            told = b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.9\r\n"
            ahead_writer.write(first + b"\r\n" + told + rest)
            await asyncio.gather(_pass_on(reader, ahead_writer), _pass_on(ahead_reader, writer))
        except asyncio.IncompleteReadError:
            ahead_writer.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def trusting(shown: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=shown.file)
    context.check_hostname = False  # the certificate is for the address, the page asks for a name
    return context


async def test_a_dashboard_over_tls(house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "trueup.api")
    shown = certificate(tmp_path)
    async with served(house, users=USERS, allowed_hosts=(NAME,)) as port, proxy(port, shown) as outside:
        trust = trusting(shown)
        page = {"Host": NAME, "Origin": f"https://{NAME}"}
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{outside}", verify=trust) as browser:
            login = await browser.post("/login", json=OLEG, headers=page)
            assert login.status_code == 200
            cookie = login.headers["set-cookie"]
            assert "Secure" in cookie
            assert "HttpOnly" in cookie
            assert "samesite=strict" in cookie.lower()
            assert "address=203.0.113.9" in caplog.text
            foreign = page | {"Origin": "https://evil.example"}
            assert (await browser.post("/login", json=OLEG, headers=foreign)).status_code == 403
        shown_cookie = {"Cookie": cookie.partition(";")[0], "Host": NAME}
        address = f"wss://{NAME}/ws"
        how = {"host": "127.0.0.1", "port": outside, "ssl": trust, "server_hostname": "127.0.0.1"}
        async with connect(
            address, origin=f"https://{NAME}", additional_headers={"Cookie": shown_cookie["Cookie"]}, **how
        ) as on:  # type: ignore[arg-type]
            assert (await hear(on))["channel"] == "system:snapshot"
            await settled(1)  # it is on the fast path
            alert(house, "over TLS")
            assert (await hear(on))["data"]["reason"] == "over TLS"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address, origin="https://evil.example", **how):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403


async def test_plain_http_gets_a_cookie_that_plain_http_can_show(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trueup.api")
    async with served(house, users=USERS) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as browser:
        login = await browser.post("/login", json=OLEG)
        assert "Secure" not in login.headers["set-cookie"]
        assert "address=127.0.0.1" in caplog.text
