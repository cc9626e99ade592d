"""trueup's own gateway as it runs, fed by the publisher's lines through the bus.

`python -m bench.peers.ours PORT SOURCE_PORT [slow]`; with `slow` on the portable path.

Not a lean stand-in: the app, its gatekeeper, bus, history and encoder are the real ones. Invariant: a line becomes one
view on a log channel, and nothing else is published.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field

from bench.peers.source import serve_source
from trueup.api.deps import GatewayOptions
from trueup.api.serve import serve_gateway
from trueup.bus import codec
from trueup.bus.memory import MemoryBus
from trueup.core.belief import new_belief
from trueup.core.projection import RuntimeNumbers
from trueup.core.views import Channel, RiskAlertView
from trueup.journal.memory import MemoryJournal
from trueup.runtime.clock import SystemClock
from trueup.runtime.quotes import Quotes
from trueup.runtime.sequencer import Sequencer


class Health:
    """No runtime, so no numbers but these."""

    def numbers(self) -> RuntimeNumbers:
        return RuntimeNumbers(broker="bench", version="bench")


@dataclass
class House:
    """What the gateway may reach."""

    sequencer: Sequencer
    bus: MemoryBus
    clock: SystemClock
    quotes: Quotes
    health: Health = field(default_factory=Health)


def view(line: str, clock: SystemClock) -> RiskAlertView:
    """A view that carries the publisher's line."""
    return RiskAlertView(
        type="bench",
        severity="info",
        reason=line,
        symbol=None,
        current_value=None,
        limit_value=None,
        timestamp=clock.now(),
    )


async def main(port: int, source_port: int, *, fast: bool) -> None:
    clock = SystemClock()
    journal = MemoryJournal()
    bus = MemoryBus("bench")
    belief = new_belief(account="bench", epoch=journal.epoch)
    sequencer = Sequencer(belief=belief, journal=journal, bus=bus, clock=clock, queue_limit=100)
    house = House(sequencer, bus, clock, Quotes(clock))

    def publish(line: str) -> None:
        bus.publish(Channel.RISK_ALERT, view(line, clock), clock.now())

    await serve_source(source_port, publish)
    options = GatewayOptions(codec=codec, port=port, fast=fast)
    await serve_gateway(house, options, ready=lambda _: print("ready", flush=True))


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2]), fast="slow" not in sys.argv[3:]))
