"""Every setting: name, unit, default and reason, in the one table that help, documentation and environment come from.

Not for using them: `bootstrap` reads the settings once and hands them down as plain values. Not for what belongs to one
command only (those are options in `cli`).
Invariant: a value that got into `Settings` is usable; whatever was wrong with it was said in one line that names the
setting and what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from trueup.errors import BadInput

ValueT = TypeVar("ValueT")

PREFIX = "TRUEUP_"
NOT_SETTINGS = frozenset({"TRUEUP_URL", "TRUEUP_CHROMIUM", "TRUEUP_DEBUG", "TRUEUP_SIM_URL"})
"""Environment names with our prefix that other parts of the project read."""


def _text(raw: str) -> str:
    return raw.strip()


def _flag(raw: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    answer = words.get(raw.strip().lower())
    if answer is None:
        raise ValueError("must be one of yes or no")
    return answer


def _choice(*words: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        word = raw.strip().lower()
        if word not in words:
            near = difflib.get_close_matches(word, words, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"must be one of {', '.join(words)}{hint}")
        return word

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", raw.strip()) or not low <= int(raw) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(raw)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(raw: str) -> float:
        text = raw.strip()
        if not re.fullmatch(r"[+-]?([0-9]{1,12}(\.[0-9]{0,9})?|\.[0-9]{1,9})", text) or not low <= float(text) <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}, such as {max(low, 1):g}")
        return float(text)

    return parse


def _url(raw: str) -> str:
    text = raw.strip().rstrip("/")
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or parts.query or parts.fragment or parts.username:
        raise ValueError("must be a web address such as http://127.0.0.1:8801")
    if parts.path.rstrip("/") == "/v2":
        raise ValueError("must be the address without /v2, such as https://paper-api.alpaca.markets")
    return text


def _redis_url(raw: str) -> str:
    text = raw.strip()
    tls = r"ssl_(ca_certs|certfile|keyfile)=[^&\s]+"
    if text and not re.fullmatch(
        rf"(redis://[^/?\s]+(/[0-9]{{0,4}})?|rediss://[^/?\s]+(/[0-9]{{0,4}})?(\?{tls}(&{tls})*)?|unix://\S+)", text
    ):
        raise ValueError(
            "must be an address such as redis://127.0.0.1:6379/0, or rediss://host:6379/0?ssl_ca_certs=FILE for TLS"
        )
    return text


def _symbols(raw: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip().upper() for word in raw.split(",") if word.strip()))
    for word in words:
        if not re.fullmatch(r"[A-Z][A-Z0-9]{0,9}([./][A-Z0-9]{1,6})?", word):
            raise ValueError(
                f"must be a list of symbols with commas between them, such as AAPL,MSFT; {word!r} is no symbol"
            )
    if len(words) > 500:
        raise ValueError("must hold at most 500 symbols")
    return words


def _folder(raw: str) -> Path | None:
    text = raw.strip()
    if "\0" in text:
        raise ValueError("must be the path of a folder")
    return Path(text).expanduser() if text else None


def _host(raw: str) -> str:
    text = raw.strip()
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", text):
        raise ValueError("must be a host name or address to listen on, such as 127.0.0.1")
    return text


def _token(raw: str) -> str:
    text = raw.strip()
    if text and (len(text) < 16 or not re.fullmatch(r"[\x21-\x7e]+", text)):
        raise ValueError("must be at least 16 printable characters without spaces")
    return text


def _setting(
    default: ValueT,
    *,
    unit: str,
    why: str,
    parse: Callable[[str], ValueT],
    env: str = "",
    secret: bool = False,
    shown: str = "",
) -> ValueT:
    metadata = {"unit": unit, "why": why, "parse": parse, "env": env, "secret": secret, "shown": shown}
    made: ValueT = field(default=default, repr=not secret, metadata=metadata)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process; each field below is one row of the table."""

    broker: str = _setting(
        "alpaca",
        unit="name",
        why="Which broker holds the account.",
        parse=_choice("alpaca"),
    )
    alpaca_key: str = _setting(
        "",
        unit="key",
        why="Names the account at Alpaca. Taken from the environment only, so that it stays out of the process list.",
        parse=_text,
        env="APCA_API_KEY_ID",
        secret=True,
    )
    alpaca_secret: str = _setting(
        "",
        unit="key",
        why="Proves that the account is yours. Taken from the environment only.",
        parse=_text,
        env="APCA_API_SECRET_KEY",
        secret=True,
    )
    alpaca_url: str = _setting(
        "",
        unit="address",
        why="Trading address; orders and trade updates go there, and for a simulator market data too. "
        "Empty is Alpaca's paper account, or real money with --live.",
        parse=_url,
        shown="Alpaca paper",
    )
    data_url: str = _setting(
        "",
        unit="address",
        why="Market-data address where it differs from the trading address. Empty is Alpaca's, or alpaca_url if given.",
        parse=_url,
        shown="follows alpaca_url",
    )
    data_feed: str = _setting(
        "iex",
        unit="name",
        why="Which market data is subscribed to: iex is free, sip is the whole market and needs a subscription.",
        parse=_choice("iex", "sip", "delayed_sip", "test"),
    )
    live: bool = _setting(
        False,
        unit="yes or no",
        why="Trade real money. Never on by itself, and asked for again when started by hand.",
        parse=_flag,
    )
    symbols: tuple[str, ...] = _setting(
        (),
        unit="symbols",
        why="Whose quotes are watched. Empty watches none, and positions are then valued at the broker's prices.",
        parse=_symbols,
        shown="none",
    )
    strategy: str = _setting(
        "none",
        unit="name",
        why="Which strategy trades. Watching the truth about orders needs none.",
        parse=_choice("none", "sma_cross"),
    )
    state: Path | None = _setting(  # noqa: RUF009 - it makes a field, and a Path never changes
        None,
        unit="folder",
        why="Where the journal lives. One folder belongs to one account for ever, so that two accounts never mix.",
        parse=_folder,
        shown="~/.local/state/trueup/<account kind>",
    )
    host: str = _setting(
        "127.0.0.1",
        unit="address",
        why="Where the dashboard listens. Beyond this machine it needs a token.",
        parse=_host,
    )
    port: int = _setting(
        8000,
        unit="port",
        why="Where the dashboard listens.",
        parse=_whole(1, 65535),
    )
    token: str = _setting(
        "",
        unit="text",
        why="What a client must show when the dashboard listens beyond this machine.",
        parse=_token,
        secret=True,
        shown="none",
    )
    gateway_token: str = _setting(
        "",
        unit="text",
        why="What `trueup gateway` shows the runtime, which then believes it about who asks; the same at both, and "
        "known to no person. It also signs the logins that gateways share through Redis.",
        parse=_token,
        secret=True,
        shown="none",
    )
    users: Path | None = _setting(  # noqa: RUF009 - it makes a field, and a Path never changes
        None,
        unit="file",
        why="Who may log in: lines of name, role (viewer or operator) and argon2 hash; `trueup user NAME` prints one.",
        parse=_folder,
        shown="none",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        unit="names",
        why="Host names besides localhost under which a browser may reach the dashboard; others are refused, so that "
        "a foreign web site can't reach it through its visitor's browser.",
        parse=lambda raw: tuple(word.strip().lower() for word in raw.split(",") if word.strip()),
        shown="none",
    )
    redis_url: str = _setting(
        "",
        unit="address",
        why="Redis (7 or newer) or Valkey that carries every channel to other processes; empty keeps them in this one. "
        "With rediss:// the way there is TLS; ?ssl_ca_certs=FILE names who vouches for it, ssl_certfile and "
        "ssl_keyfile what we show. May hold a password, so it is never shown.",
        parse=_redis_url,
        secret=True,
        shown="none",
    )
    runtime_url: str = _setting(
        "http://127.0.0.1:8000",
        unit="address",
        why="Where `trueup gateway` hands on what it can't answer itself: commands, and questions about one order.",
        parse=_url,
    )
    connections: int = _setting(
        2000,
        unit="connections",
        why="How many dashboards may be connected at once.",
        parse=_whole(1, 1_000_000),
    )
    connections_per_address: int = _setting(
        200,
        unit="connections",
        why="The same from one address, so that no machine can take every place; behind a proxy all have its address.",
        parse=_whole(1, 1_000_000),
    )
    orders_poll_s: float = _setting(
        10.0,
        unit="seconds",
        why="Open orders are asked for this often though the stream is up: streams have dropped fills while their "
        "heartbeats went on.",
        parse=_seconds(0.2, 3600),
    )
    orders_poll_gap_s: float = _setting(
        2.0,
        unit="seconds",
        why="The same while the stream of our own orders is not up: then the poll is the only way to learn of a fill.",
        parse=_seconds(0.2, 3600),
    )
    positions_poll_s: float = _setting(
        60.0,
        unit="seconds",
        why="Positions are asked for this often; they show what executions alone can't, such as a split.",
        parse=_seconds(0.2, 3600),
    )
    reconcile_s: float = _setting(
        300.0,
        unit="seconds",
        why="A whole reconciliation is made this often, besides the one at every connect and reconnect.",
        parse=_seconds(1, 86400),
    )
    backoff_max_s: float = _setting(
        30.0,
        unit="seconds",
        why="Upper bound of the pause before a stream is opened again; pauses begin at half a second and double.",
        parse=_seconds(0.1, 3600),
    )
    connect_timeout_s: float = _setting(
        5.0,
        unit="seconds",
        why="How long opening a connection to the broker may take.",
        parse=_seconds(0.1, 120),
    )
    request_timeout_s: float = _setting(
        10.0,
        unit="seconds",
        why="How long the broker may take to answer; an order without an answer by then is in doubt and looked up.",
        parse=_seconds(0.1, 300),
    )
    ping_s: float = _setting(
        5.0,
        unit="seconds",
        why="How often a stream is probed; with ping_timeout_s it bounds how long a dead connection looks alive.",
        parse=_seconds(0.1, 300),
    )
    ping_timeout_s: float = _setting(
        5.0,
        unit="seconds",
        why="How long a probe may stay unanswered before the stream is given up.",
        parse=_seconds(0.1, 300),
    )
    refused_pause_s: float = _setting(
        90.0,
        unit="seconds",
        why="Pause after the broker refused a stream as one too many: it keeps a dead connection's place for about "
        "that long.",
        parse=_seconds(0.1, 3600),
    )
    requests_per_minute: int = _setting(
        200,
        unit="requests",
        why="The broker's budget. Cancels keep a reserve of it that nothing else can use.",
        parse=_whole(10, 100_000),
    )
    log_level: str = _setting(
        "info",
        unit="name",
        why="How much is written to standard error.",
        parse=_choice("debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the settings table, as help and documentation show it."""

    name: str
    env: str
    unit: str
    default: str
    why: str
    secret: bool


def _env(name: str, metadata: Mapping[str, Any]) -> str:
    given: str = metadata["env"]
    return given or PREFIX + name.upper()


def _default(value: object, shown: str) -> str:
    if shown:
        return shown
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def table() -> tuple[Row, ...]:
    """Every setting in the order of declaration."""
    return tuple(
        Row(
            name=item.name,
            env=_env(item.name, item.metadata),
            unit=item.metadata["unit"],
            default=_default(item.default, item.metadata["shown"]) or "none",
            why=item.metadata["why"],
            secret=item.metadata["secret"],
        )
        for item in fields(Settings)
    )


def help_of(name: str) -> str:
    """The line that command-line help shows for one setting: reason, unit and default."""
    row = next(row for row in table() if row.name == name)
    unit = "" if row.unit == "yes or no" else f"{row.unit}; "
    return f"{row.why} ({unit}default {row.default}; {row.env})"


def read_settings(environment: Mapping[str, str], given: Mapping[str, str | None]) -> Settings:
    """Settings from what was given by hand, else from the environment, else from the defaults; raises `BadInput`."""
    names = {item.name for item in fields(Settings)}
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=1)
            hint = f"did you mean {near[0]}?" if near else "`trueup schema --settings` lists them"
            raise BadInput(f"{name} is no setting; {hint}", field=name)
    values: dict[str, Any] = {}
    for item in fields(Settings):
        env = _env(item.name, item.metadata)
        by_hand = given.get(item.name)
        raw, source = (by_hand, item.name) if by_hand is not None else (environment.get(env), env)
        if raw is None:
            continue
        try:
            values[item.name] = item.metadata["parse"](raw)
        except ValueError as error:
            got = "what was given" if item.metadata["secret"] else repr(raw)
            raise BadInput(f"{source} {error}; got {got}", field=item.name) from None
    return Settings(**values)


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Warnings about environment names that look like settings and are none, each with what was perhaps meant."""
    known = {row.env for row in table()} | NOT_SETTINGS
    warnings: list[str] = []
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            warnings.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return warnings


def markdown() -> str:
    """The settings reference, docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "Each setting is read once at the start: from the command line, else from the environment, else its default.",
        "The most used have an option of their own in `trueup run --help`; any of them can be given as",
        "`--set name=value`. Secrets come from the environment only.",
        "",
        "| setting | environment | unit | default | why |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | `{row.env}` | {row.unit} | {row.default.replace('<', '&lt;')} | {row.why} |"
        for row in table()
    ]
    return "\n".join(lines) + "\n"
