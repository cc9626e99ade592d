"""What routes may reach, and how they answer: the house behind the gateway, the options, exact JSON.

Not for deciding anything. Invariant: a route reads belief and submits inputs; it never changes belief itself, and every
number leaves as exactly the digits that belief holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Depends, Request, Response

from trueup.api.identity import LOCAL, Identity
from trueup.api.sessions import Shelf, User
from trueup.core.belief import Belief
from trueup.core.model import Quote, Symbol
from trueup.core.projection import RuntimeNumbers, system_snapshot_view
from trueup.core.transition import Outcome
from trueup.core.views import Channel
from trueup.ports import Clock, Envelope, EventBus, Input, Subscription

STATIC = Path(__file__).parent / "static"
"""Where the built dashboard lies."""


class Sequencer(Protocol):
    """The single writer, as far as the gateway needs it."""

    @property
    def belief(self) -> Belief:
        """All we hold true; to be read only."""

    async def submit(self, item: Input, /) -> Outcome:
        """Returns when journaled and stepped; raises `Busy` when its queue is full."""


class Quotes(Protocol):
    """The newest quotes."""

    def latest(self) -> Mapping[Symbol, Quote]:
        """The newest quote of each symbol."""


class Health(Protocol):
    """The runtime's own numbers."""

    def numbers(self) -> RuntimeNumbers:
        """Queue depths, counters and market-data age as they are now."""


class House(Protocol):
    """What the gateway may reach."""

    @property
    def sequencer(self) -> Sequencer: ...
    @property
    def bus(self) -> EventBus: ...
    @property
    def quotes(self) -> Quotes: ...
    @property
    def health(self) -> Health: ...
    @property
    def clock(self) -> Clock: ...


class Codec(Protocol):
    """How views become bytes; the bus's own codec, handed in so that HTTP and stream can't differ."""

    def encode(self, value: object) -> bytes:
        """Any view, or lists of them, as JSON with exact numbers."""

    def wire(self, envelope: Envelope, cursors: Mapping[str, int] | None = None) -> bytes:
        """An envelope as a client gets it."""


class History(Protocol):
    """Answers from the journal, as JSON; both raise `Busy` when too many ask at once."""

    async def explain(self, order_id: str, at: datetime | None, /) -> bytes | None:
        """One order's whole story, by any of its ids; None when the journal never knew it."""

    async def divergences(self) -> bytes:
        """Every drift and every gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How the gateway is reached. Beyond this machine it needs a `token`; `allowed_hosts` are names besides localhost.

    `backlog` bounds the messages that may wait for one slow dashboard. Port 0 takes any free one. A client that answers
    no ping for `ping_timeout_s` is dropped; one that says more than `messages_per_s`, over three seconds, is closed.
    `secret` draws what no one can guess, for the cookies of those who log in. Whoever shows `gateway_token` is another
    gateway and is believed about whom it asks for. What several gateways know of logins in common lies on the `shelf`,
    signed with `shelf_key`.
    Without `fast`, each dashboard is served by tasks of its own, as behind any other server.
    """

    codec: Codec
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    gateway_token: str = ""
    shelf: Shelf | None = None
    shelf_key: bytes = b""
    allowed_hosts: tuple[str, ...] = ()
    backlog: int = 1024
    connections: int = 20_000
    connections_per_address: int = 20_000
    messages_per_s: float = 20.0
    commands_per_minute: int = 600
    users: tuple[User, ...] = ()
    secret: Callable[[], str] = lambda: ""
    ping_s: float = 20.0
    ping_timeout_s: float = 20.0
    static: Path = STATIC
    fast: bool = True
    history: History | None = None


class Listening(Protocol):
    """The half of a bus that is listened to."""

    @property
    def epoch(self) -> str: ...
    def subscribe(self) -> Subscription: ...
    def cursors(self) -> Mapping[str, int]: ...
    def since(self, channel: str, offset: int) -> Sequence[Envelope] | None: ...


class Answering(Protocol):
    """Whatever can turn a view into an answer."""

    def answer(self, view: object, *, status: int = 200) -> Response:
        """A view, or a list of views, as an HTTP answer."""


class Stage(Protocol):
    """What the websocket shows, wherever it comes from."""

    @property
    def options(self) -> GatewayOptions: ...
    @property
    def bus(self) -> Listening: ...
    @property
    def clock(self) -> Clock: ...

    def picture(self) -> tuple[Envelope, Mapping[str, int]] | None:
        """A whole snapshot and the offsets up to which it holds everything; None while there is none."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The house and the options, as each route gets them."""

    house: House
    options: GatewayOptions

    @property
    def belief(self) -> Belief:
        """All we hold true."""
        return self.house.sequencer.belief

    @property
    def bus(self) -> EventBus:
        """Where envelopes come from."""
        return self.house.bus

    @property
    def clock(self) -> Clock:
        """The only way to know the time."""
        return self.house.clock

    def picture(self) -> tuple[Envelope, Mapping[str, int]] | None:
        """All that a dashboard shows as of now."""
        house, at = self.house, self.house.clock.now()
        view = system_snapshot_view(house.sequencer.belief, house.quotes.latest(), house.health.numbers(), at)
        body = self.options.codec.encode(view)
        return Envelope(Channel.SYSTEM_SNAPSHOT.value, house.bus.epoch, 0, at, body), house.bus.cursors()

    def answer(self, view: object, *, status: int = 200) -> Response:
        """A view, or a list of views, as an HTTP answer."""
        return Response(
            self.options.codec.encode(view),
            status_code=status,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )


def _asked_by(request: Request) -> str:
    identity: Identity = request.scope.get("trueup.identity", LOCAL)
    return identity.name


AskedBy = Annotated[str, Depends(_asked_by)]
"""Whose wish a command is, for the journal."""


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
