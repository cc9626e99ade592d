"""Who is let in: hosts, origins, tokens, and the address itself."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from tests.api.house import House, http_client, options, served
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from trueup.api.app import build_app
from trueup.api.serve import serve_gateway
from trueup.errors import BadInput

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", "localhost."])
async def test_this_machine_is_served(house: House, host: str) -> None:
    async with http_client(house) as client:
        assert (await client.get("/api/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "192.168.1.5", "", "[::", "127.0.0.1.nip.example:8000"]
)
async def test_a_name_that_was_pointed_here_is_refused(house: House, host: str) -> None:
    async with http_client(house) as client:
        answer = await client.get("/api/health", headers={"Host": host})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "host_not_allowed"


async def test_a_name_can_be_allowed(house: House) -> None:
    async with http_client(house, allowed_hosts=("Desk.Example",)) as client:
        assert (await client.get("/api/health", headers={"Host": "desk.example:8000"})).status_code == 200
        assert (await client.get("/api/health", headers={"Host": "other.example"})).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("http://LOCALHOST:8000", 200),
        ("http://localhost:5555", 403),
        ("http://127.0.0.1:8000", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
async def test_a_page_of_another_origin_is_refused(house: House, origin: str, status: int) -> None:
    async with http_client(house) as client:
        headers = {"Host": "localhost:8000", "Origin": origin}
        answer = await client.post("/api/kill", headers=headers)
        assert answer.status_code == status
    assert house.sequencer.belief.gate.kill.killed is (status == 200)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
async def test_a_foreign_page_hears_nothing(house: House, headers: dict[str, str]) -> None:
    async with served(house) as port:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers):
                pass
        assert refused.value.response.status_code == 403


async def test_no_page_can_be_laid_over_the_dashboard(house: House) -> None:
    async with http_client(house) as client:
        for path in ("/", "/api/health", "/nothing.js"):
            headers = (await client.get(path)).headers
            assert headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]


# --- the token ---


async def test_without_the_token_nothing_is_told(house: House) -> None:
    async with http_client(house, token=TOKEN) as client:
        for path in ("/api/health", "/api/orders", "/openapi.json", "/readyz"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert (await client.post("/api/kill", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await client.post("/api/kill", headers={"Authorization": f"Basic {TOKEN}"})).status_code == 401
        assert (await client.get("/api/health", headers={b"Cookie": b"trueup_session=\xff"})).status_code == 401
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/health", headers={"Authorization": f"bearer {TOKEN}"})).status_code == 200


async def test_a_browser_shows_the_token_once(house: House) -> None:
    async with http_client(house, token=TOKEN) as client:
        page = {"Accept": "text/html"}
        asked = await client.get(f"/?token={TOKEN}", headers=page)  # an address line proves nothing
        assert asked.status_code == 401
        assert "asks who you are" in asked.text
        assert "not right" in (await client.post("/login", data={"token": "wrong"}, headers=page)).text
        welcome = await client.post("/login", data={"token": TOKEN}, headers=page)
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert (await client.get("/api/health")).status_code == 200  # the cookie went along


async def test_the_websocket_asks_for_the_token_too(house: House) -> None:
    async with served(house, token=TOKEN) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url):
                pass
        assert refused.value.response.status_code == 403
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as browser:
            assert (await browser.post("/login", json={"token": TOKEN})).json()["role"] == "operator"
            cookie = f"trueup_session={browser.cookies['trueup_session']}"
        for shown in ({"Authorization": f"Bearer {TOKEN}"}, {"Cookie": cookie}):
            async with connect(url, additional_headers=shown) as client:
                assert "system:snapshot" in str(await client.recv())[:40]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "desk.example"])
def test_other_machines_need_a_token(house: House, host: str) -> None:
    with pytest.raises(BadInput, match="token") as refused:
        build_app(house, options(host=host))
    assert refused.value.field == "token"
    build_app(house, options(host=host, token=TOKEN))


def test_a_short_token_is_refused(house: House) -> None:
    with pytest.raises(BadInput, match="at least 16"):
        build_app(house, options(token="secret"))


async def test_open_to_the_network_an_address_is_served_and_a_name_is_not(house: House) -> None:
    async with http_client(house, host="0.0.0.0", token=TOKEN) as client:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert (await client.get("/api/health", headers={"Host": "192.168.1.5:8000"} | bearer)).status_code == 200
        assert (await client.get("/api/health", headers={"Host": "evil.example"} | bearer)).status_code == 403


# --- the address ---


async def test_a_port_that_is_taken(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} on 127.0.0.1 is taken") as refused:
            await serve_gateway(house, options(port=port))
        assert refused.value.field == "port"


async def test_an_address_that_is_not_ours(house: House) -> None:
    with pytest.raises(BadInput, match=r"can't listen on 192\.0\.2\.1") as refused:
        await serve_gateway(house, options(host="192.0.2.1", token=TOKEN))
    assert refused.value.field == "host"


async def test_a_port_is_free_again_after_stopping(house: House) -> None:
    async with served(house) as port:
        pass
    async with served(house, port=port) as again:
        assert again == port


# --- the dashboard's files ---


def built(folder: Path) -> Path:
    (folder / "static" / "assets").mkdir(parents=True)
    (folder / "static" / "index.html").write_text("<title>the dashboard</title>")
    (folder / "static" / "assets" / "index-abc.js").write_text("export {}")
    (folder / "secret.txt").write_text("keys")
    return folder / "static"


async def test_the_dashboard_is_served(house: House, tmp_path: Path) -> None:
    async with http_client(house, static=built(tmp_path)) as client:
        for path in ("/", "/index.html", "/orders/o-5"):
            page = await client.get(path)
            assert (page.status_code, page.text) == (200, "<title>the dashboard</title>")
            assert page.headers["cache-control"] == "no-cache"
        script = await client.get("/assets/index-abc.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        assert (await client.get("/assets/gone.js")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt"]
)
async def test_nothing_outside_is_served(house: House, tmp_path: Path, path: str) -> None:
    async with http_client(house, static=built(tmp_path)) as client:
        answer = await client.get(path)
        assert "keys" not in answer.text
        assert answer.status_code == 404


async def test_a_copy_without_the_dashboard_says_what_to_do(house: House, tmp_path: Path) -> None:
    async with http_client(house, static=tmp_path / "nowhere") as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "make web" in page.text
        assert "/api/snapshot" in page.text
