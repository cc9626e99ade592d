"""Where Alpaca is: the three addresses that one trading address stands for.

Not for opening anything. Invariant: an address that can't be right is refused here, before any key is sent to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from trueup.errors import BadInput

PAPER = "https://paper-api.alpaca.markets"
LIVE = "https://api.alpaca.markets"
DATA = "wss://stream.data.alpaca.markets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The addresses of requests, order events and quotes."""

    rest: str
    trading_stream: str
    stock_data_stream: str


def endpoints(*, alpaca_url: str = "", data_url: str = "", data_feed: str = "iex", live: bool = False) -> Endpoints:
    """The three addresses behind the settings; empty ones mean Alpaca's own. Raises `BadInput` naming the setting.

    With an `alpaca_url` of another host (a simulator) market data is expected there too, unless `data_url` differs.
    """
    rest = checked_url(alpaca_url, "alpaca_url", ("http", "https")) if alpaca_url else (LIVE if live else PAPER)
    if data_url:
        data = _websocket(checked_url(data_url, "data_url", ("http", "https", "ws", "wss")))
    elif (urlsplit(rest).hostname or "").endswith(".alpaca.markets"):
        data = DATA
    else:
        data = _websocket(rest)
    return Endpoints(rest=rest, trading_stream=f"{_websocket(rest)}/stream", stock_data_stream=f"{data}/v2/{data_feed}")


def checked_url(url: str, field: str, schemes: tuple[str, ...], *, has_path: bool = False) -> str:
    """The address without a trailing slash. Raises `BadInput` that names the setting and shows a right one."""
    option = "--" + field.replace("_", "-")
    example = f"{schemes[-1]}://paper-api.alpaca.markets" if len(schemes) == 2 else f"{schemes[0]}://127.0.0.1:8001"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise BadInput(
            f"{option} is {url!r} ({error}); it must be an address such as {example}", field=field
        ) from error
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise BadInput(f"{option} is {url!r}; it must be an address such as {example}", field=field)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(f"{option} must be a bare address such as {example}; keys go into the environment", field=field)
    if parts.path.strip("/") and not has_path:
        raise BadInput(
            f"{option} is {url!r}; leave the path {parts.path!r} out, it is added by itself: {example}", field=field
        )
    return url.strip().rstrip("/")


def _websocket(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return {"http": "ws", "https": "wss"}.get(scheme, scheme) + "://" + rest
