"""A view as JSON, and an envelope as the bytes that a browser gets; the body is encoded once, however many listen.

Amounts are exact JSON numbers, times RFC 3339 with a Z, tuples arrays, words the values of their enumerations; every
field is written, defaults too. Not for the journal (`journal/codec.py`): nothing here is ever read back by us.
Invariant: what leaves is valid JSON, whatever a view holds.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from trueup.ports import Envelope

_ENCODER = msgspec.json.Encoder(decimal_format="number")


def encode(value: object) -> bytes:
    """A view, or anything made of views, lists and plain values, as JSON; raises TypeError or ValueError."""
    body = _ENCODER.encode(value)
    if b"NaN" in body or b"Infinity" in body:
        # Worth a second look: JSON has no such numbers, and one of them would break every reader.
        try:
            msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise ValueError("JSON has no NaN and no Infinity, and a value holds one") from None
    return body


def wire(envelope: Envelope, cursors: Mapping[str, int] | None = None) -> bytes:
    """`{"channel", "data", "epoch", "offset", "at"}` around the body as it is; `cursors` goes with a snapshot.

    A snapshot's cursors are the offsets of every channel up to which it already holds everything. What somebody else
    published has no epoch, hence no place that one could resume from, and goes out as `{"channel", "data"}` alone.
    """
    if not envelope.epoch:
        return b'{"channel":%b,"data":%b}' % (_ENCODER.encode(envelope.channel), envelope.body)
    tail = b"" if cursors is None else b',"cursors":' + _ENCODER.encode(cursors)
    return b'{"channel":%b,"data":%b,"epoch":%b,"offset":%d,"at":%b%b}' % (
        _ENCODER.encode(envelope.channel),
        envelope.body,
        _ENCODER.encode(envelope.epoch),
        envelope.offset,
        _ENCODER.encode(envelope.at),
        tail,
    )
