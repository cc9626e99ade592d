"""One input as bytes and back: `["OrderReported", 1, {...}]`, a type name, its version and the fields.

Fields that hold their default are left out; amounts are strings that keep every digit, times are RFC 3339 in UTC, words
are the values of their enumerations. Not for views (`bus/codec.py`): those live for a moment, an entry for years.
Invariant: what was once written stays readable. Whoever changes the fields of an input, or of a noun inside it, raises
the version of every input that holds it and registers a lifter for the old form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from trueup.core.commands import Command
from trueup.errors import JournalCorrupt, JournalUnusable
from trueup.ports import Input

Lifter = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the raw fields of one version into those of the next."""

_Pack = Callable[[Any], Any]

INPUT_TYPES: tuple[type, ...] = get_args(Input)

_COMMANDS = tuple(cls.__name__ for cls in get_args(Command))

VERSIONS: dict[str, int] = dict.fromkeys(_COMMANDS, 2)
"""Type name -> version that is written; a name that is missing here is at version 1."""


def _nobody_asked(fields_of_one: dict[str, Any]) -> dict[str, Any]:
    """Commands of form 1 do not say whose wish they were."""
    return fields_of_one


LIFTERS: dict[tuple[str, int], Lifter] = {(name, 1): _nobody_asked for name in _COMMANDS}
"""(type name, old version) -> what makes the next version of it."""


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; every time in an input is aware UTC")
    return value.astimezone(UTC)


def _packer_of(kind: Any) -> _Pack | None:
    """How values of a type become what the encoder writes; None when it writes them as they are."""
    if get_origin(kind) in (Union, UnionType):
        inner = [_packer_of(part) for part in get_args(kind) if part is not NoneType]
        if len(inner) != 1:
            raise TypeError(f"a field of {kind} can't be told apart when read; give it one type")
        pack = inner[0]
        if pack is None:
            return None
        present: _Pack = pack
        return lambda value: None if value is None else present(value)
    if get_origin(kind) is tuple:
        each = _packer_of(get_args(kind)[0])
        if each is None:
            return None
        member: _Pack = each
        return lambda values: [member(value) for value in values]
    if get_origin(kind) is dict:
        return None
    base = getattr(kind, "__supertype__", kind)
    if is_dataclass(base):
        return _object_packer(base)
    if base is datetime:
        return _as_utc
    if base in (str, int, bool, Decimal) or (isinstance(base, type) and issubclass(base, StrEnum)):
        return None
    raise TypeError(f"the journal can't hold a field of type {kind}")


def _object_packer(cls: Any) -> _Pack:
    hints = get_type_hints(cls)
    required: list[tuple[str, _Pack | None]] = []
    optional: list[tuple[str, object, _Pack | None]] = []
    for item in fields(cls):
        pack = _packer_of(hints[item.name])
        if item.default is not MISSING:
            optional.append((item.name, item.default, pack))
        elif item.default_factory is not MISSING:
            optional.append((item.name, item.default_factory(), pack))
        else:
            required.append((item.name, pack))

    def packed(value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, pack in required:
            part = getattr(value, name)
            out[name] = part if pack is None else pack(part)
        for name, default, pack in optional:
            part = getattr(value, name)
            # Compared by type too: Decimal("0.00") equals Decimal("0") and is written differently.
            if part is default or (part == default and not isinstance(part, Decimal)):
                continue
            out[name] = part if pack is None else pack(part)
        return out

    return packed


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(part) for part in value]
    return value


_ENCODER = msgspec.json.Encoder(decimal_format="string")
_HEAD: msgspec.json.Decoder[tuple[str, int, msgspec.Raw]] = msgspec.json.Decoder(tuple[str, int, msgspec.Raw])
_PACKERS: dict[type, _Pack] = {cls: _object_packer(cls) for cls in INPUT_TYPES}


class Codec:
    """Encodes and decodes inputs; `versions` and `lifters` say how older forms become today's."""

    def __init__(
        self,
        versions: Mapping[str, int] = VERSIONS,
        lifters: Mapping[tuple[str, int], Lifter] = LIFTERS,
        types: Iterable[type] = INPUT_TYPES,
    ) -> None:
        self._lifters = lifters
        self._decoders: dict[str, tuple[int, type, msgspec.json.Decoder[Any]]] = {}
        self._writers: dict[type, tuple[str, int, _Pack]] = {}
        for cls in types:
            version = versions.get(cls.__name__, 1)
            missing = [old for old in range(1, version) if (cls.__name__, old) not in lifters]
            if missing:
                raise TypeError(f"{cls.__name__} is at version {version} and nothing lifts version {missing[0]}")
            self._decoders[cls.__name__] = (version, cls, msgspec.json.Decoder(cls))
            self._writers[cls] = (cls.__name__, version, _PACKERS.get(cls) or _object_packer(cls))

    def encode(self, item: Input) -> bytes:
        """One input as bytes; raises ValueError for a time without a zone."""
        name, version, pack = self._writers[type(item)]
        packed = pack(item)
        try:
            return _ENCODER.encode((name, version, packed))
        except UnicodeEncodeError:
            # Half a surrogate pair in a frame that could not be read must not stop the one writer.
            return _ENCODER.encode((name, version, _without_surrogates(packed)))

    def decode(self, body: bytes, *, offset: int = 0) -> Input:
        """The input that `body` holds; `offset` is only for the message of what is raised.

        Raises `JournalUnusable` for what a newer version wrote, `JournalCorrupt` for what nobody wrote.
        """
        try:
            name, version, raw = _HEAD.decode(body)
            known = self._decoders.get(name)
            if known is None:
                raise JournalUnusable(
                    f"journal entry {offset} is a {name!r}, which this version does not know; "
                    "a newer trueup wrote it: run that version or a later one"
                )
            current, cls, decoder = known
            if version > current:
                raise JournalUnusable(
                    f"journal entry {offset} is a {name} in form {version}, and this version reads up to {current}; "
                    "a newer trueup wrote it: run that version or a later one"
                )
            if version == current:
                item: Input = decoder.decode(raw)
                return item
            fielded = msgspec.json.decode(raw, type=dict[str, Any])
            for old in range(version, current):
                fielded = self._lifters[name, old](fielded)
            lifted: Input = msgspec.convert(fielded, cls)
            return lifted
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise JournalCorrupt(f"journal entry {offset} can't be read: {error}") from None


CODEC = Codec()
"""The codec of the inputs as they are today."""
