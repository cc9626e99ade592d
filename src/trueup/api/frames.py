"""RFC 6455 frames: bytes from a client into messages, messages for a client into bytes. No sockets, no waiting.

Not for the handshake (uvicorn) and not for what a message means (`routes/websocket.py`). Invariant: bytes that break
the protocol give one `Violation` with RFC 6455's close code, as early as it can be known, and nothing after.
"""

from __future__ import annotations

import codecs
import struct
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NO_STATUS = 1005
"""What stands for the code of a close frame that carries none; never sent."""

CLOSE_NORMAL = 1000
CLOSE_PROTOCOL = 1002
CLOSE_NOT_TEXT = 1007
CLOSE_TOO_BIG = 1009

_CONTROL_BYTES_MAX = 125


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, text or bytes, however many frames it came in."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, to be answered with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, asked for or not."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The other side closes; `code` is `NO_STATUS` when it gave none."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The other side broke the protocol; close with `code`."""

    code: int
    reason: str


Event = Message | Ping | Pong | Closed | Violation


class FrameReader:
    """What one client sends, byte by byte or all at once; over after a `Closed` or a `Violation`."""

    __slots__ = ("_aside", "_at", "_decoder", "_head", "_left", "_limit", "_over", "_parts", "_size", "_speaking")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = b""
        # Payload bytes of the present frame still to come (-1 while its head is incomplete), and those already here.
        self._left, self._at = -1, 0
        self._aside = b""
        # The opcode of the message under way (CONTINUATION between messages), and what there is of it.
        self._speaking = CONTINUATION
        self._parts: list[str | bytes] = []
        self._size = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._over = False

    @property
    def is_idle(self) -> bool:
        """Nothing is under way: a fresh reader would do as well."""
        return not self._head and self._speaking == CONTINUATION and not self._over

    def feed(self, data: bytes) -> list[Event]:
        """What `data` completes, oldest first."""
        events: list[Event] = []
        at = 0
        while not self._over:
            event: Event | None = None
            if self._left >= 0:
                chunk = data[at : at + self._left]
                if self._left and not chunk:
                    break
                at += len(chunk)
                event = self._read_payload(chunk)
            elif wanted := self._head_wants():
                taken = data[at : at + wanted]
                if not taken:
                    break
                at += len(taken)
                self._head += taken
                if len(self._head) == 2:
                    event = self._check_first_two()
            else:
                event = self._begin_payload()
            if event is not None:
                events.append(event)
                self._over = isinstance(event, Violation | Closed)
        return events

    def _head_wants(self) -> int:
        """How many bytes the head needs before more can be said; 0 once it is whole."""
        if len(self._head) < 2:
            return 2 - len(self._head)
        short = self._head[1] & 0x7F
        return 6 + (2 if short == 126 else 8 if short == 127 else 0) - len(self._head)

    def _check_first_two(self) -> Violation | None:
        first, second = self._head
        opcode, short = first & 0x0F, second & 0x7F
        if first & 0x70:
            return Violation(CLOSE_PROTOCOL, "a reserved bit is set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            return Violation(CLOSE_PROTOCOL, f"opcode {opcode} is reserved")
        if not second & 0x80:
            return Violation(CLOSE_PROTOCOL, "a client's frames must be masked")
        if opcode >= CLOSE and (not first & 0x80 or short > _CONTROL_BYTES_MAX):
            return Violation(CLOSE_PROTOCOL, "a control frame is whole and has at most 125 bytes")
        if opcode == CONTINUATION and self._speaking == CONTINUATION:
            return Violation(CLOSE_PROTOCOL, "there is nothing to continue")
        if opcode in (TEXT, BINARY) and self._speaking != CONTINUATION:
            return Violation(CLOSE_PROTOCOL, "a message began inside another one")
        return None

    def _begin_payload(self) -> Violation | None:
        opcode, short = self._head[0] & 0x0F, self._head[1] & 0x7F
        length = short if short < 126 else int.from_bytes(self._head[2:-4])
        if length >> 63 or (short == 126 and length < 126) or (short == 127 and length < 1 << 16):
            return Violation(CLOSE_PROTOCOL, "a length is written in the fewest bytes that hold it")
        self._left, self._at = length, 0
        if opcode >= CLOSE:
            self._aside = b""
            return None
        self._size += length
        if self._size > self._limit:
            return Violation(CLOSE_TOO_BIG, f"a message has at most {self._limit} bytes")
        if opcode != CONTINUATION:
            self._speaking = opcode
            self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        return None

    def _read_payload(self, chunk: bytes) -> Event | None:
        head, plain = self._head, unmask(chunk, self._head[-4:], self._at)
        self._at += len(chunk)
        self._left -= len(chunk)
        whole = self._left == 0
        if whole:
            self._head, self._left = b"", -1
        if head[0] & 0x0F >= CLOSE:
            self._aside += plain
            return _control(head[0] & 0x0F, self._aside) if whole else None
        last = whole and bool(head[0] & 0x80)
        if self._decoder is None:
            self._parts.append(plain)
        else:
            # Decoded as it comes: what can't become UTF-8 any more is refused before the rest is waited for.
            try:
                self._parts.append(self._decoder.decode(plain, last))
            except UnicodeDecodeError:
                return Violation(CLOSE_NOT_TEXT, "a text message must be UTF-8")
        if not last:
            return None
        parts, is_text = self._parts, self._decoder is not None
        self._parts, self._size, self._speaking, self._decoder = [], 0, CONTINUATION, None
        if is_text:
            return Message("".join(part for part in parts if isinstance(part, str)))
        return Message(b"".join(part for part in parts if isinstance(part, bytes)))


def _control(opcode: int, payload: bytes) -> Event:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    if not payload:
        return Closed(NO_STATUS, "")
    if len(payload) == 1:
        return Violation(CLOSE_PROTOCOL, "a close code has two bytes")
    code = int.from_bytes(payload[:2])
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return Violation(CLOSE_PROTOCOL, f"{code} is no code to close with")
    try:
        return Closed(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Violation(CLOSE_NOT_TEXT, "a close reason must be UTF-8")


def unmask(data: bytes, key: bytes, at: int = 0) -> bytes:
    """`data` without its mask, or with it; `at` is its place in the payload."""
    if not data:
        return b""
    turned = key[at % 4 :] + key[: at % 4]
    mask = (turned * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame as a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; `NO_STATUS` makes an empty one, and a reason is cut where a control frame ends."""
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    told = reason.encode()[: _CONTROL_BYTES_MAX - 2].decode(errors="ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + told)
