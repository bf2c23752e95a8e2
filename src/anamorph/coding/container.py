"""The format of compressed files: a header that names the model, the payload, and checksums. See docs/compression.md."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from anamorph.coding.model_identity import FINGERPRINT_BYTES
from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Image, Signal

__all__ = ["VERSION", "Packed", "pack", "unpack"]

MAGIC, VERSION = b"anam", 1
CHECK = 4
"""Bytes per checksum."""
MAX_SIGNALS = 1 << 20
"""Signals per file, at most."""
KINDS: tuple[type[Signal], ...] = (Image, Audio)


@dataclass(frozen=True)
class Packed:
    """Signals whose codes share one payload.

    lane: of the first; the others take the following ones by turns. labels: per signal, a class per label that the prior is
    conditioned on. originals: per signal, its size before it was resized; empty if none was.
    check: CRC-32 of the codes.
    """

    fingerprint: bytes
    signal: Signal
    count: int
    lane: int
    labels: tuple[tuple[int, ...], ...]
    originals: tuple[tuple[int, ...], ...]
    payload: bytes
    check: int

    @property
    def header_bytes(self) -> int:
        """Bytes of the file beside its payload."""
        return len(pack(self)) - len(self.payload)


def pack(packed: Packed) -> bytes:
    """Return the bytes of a file."""
    numbers = [
        *(KINDS.index(type(packed.signal)), *_sizes(packed.signal)),
        *(packed.count, packed.lane),
        *_table(packed.labels),
        *_table(packed.originals),
        len(packed.payload),
    ]
    head = MAGIC + bytes([VERSION]) + packed.fingerprint + b"".join(map(_varint, numbers))
    body = head + packed.payload + packed.check.to_bytes(CHECK, "little")
    return body + zlib.crc32(body).to_bytes(CHECK, "little")


def unpack(data: bytes, name: str = "this") -> Packed:
    """Parse a file.

    Raises:
        UserError: if it is another kind of file, of a newer version, cut short or altered.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(f"{name} is not a file of `anamorph compress` or `anamorph.compress`")
    version = data[len(MAGIC)] if len(data) > len(MAGIC) else 0
    if version > VERSION:
        raise UserError(f"{name} has version {version} of the format, expected at most {VERSION}: update anamorph")
    if version != VERSION or zlib.crc32(data[:-CHECK]).to_bytes(CHECK, "little") != data[-CHECK:]:
        raise UserError(f"{name} is damaged or cut short: its checksum is wrong; copy it again")
    try:
        return _read(data[len(MAGIC) + 1 : -CHECK])
    except (IndexError, ValueError, TypeError) as error:
        raise UserError(f"{name} does not follow the format: {error}") from error


def _read(body: bytes) -> Packed:
    """Parse the bytes between the version and the last checksum."""
    numbers = _Numbers(body, FINGERPRINT_BYTES)
    kind = KINDS[numbers.next(len(KINDS) - 1)]
    signal = kind(*(numbers.next(1 << 32) for _ in range(3)))
    count, lane = numbers.next(MAX_SIGNALS), numbers.next(255)
    labels, originals = (tuple(_rows(numbers, count)) for _ in range(2))
    size = numbers.next(1 << 40)
    payload, rest = body[numbers.at : numbers.at + size], body[numbers.at + size :]
    if count < 1 or len(payload) != size or len(rest) != CHECK:
        raise ValueError(f"{count} signals in {len(body) - numbers.at} bytes")
    return Packed(body[:FINGERPRINT_BYTES], signal, count, lane, labels, originals, payload, int.from_bytes(rest, "little"))


def _sizes(signal: Signal) -> tuple[int, int, int]:
    if isinstance(signal, Image):
        return signal.channels, signal.height, signal.width
    return signal.channels, signal.samples, signal.sample_rate


def _table(rows: tuple[tuple[int, ...], ...]) -> list[int]:
    """Return the width of a table, followed by its rows; a table of width 0 has no rows."""
    return [len(rows[0]) if rows else 0, *(value for row in rows for value in row)]


def _rows(numbers: _Numbers, count: int) -> Iterable[tuple[int, ...]]:
    width = numbers.next(16)
    return [tuple(numbers.next(1 << 32) for _ in range(width)) for _ in range(count)] if width else ()


def _varint(value: int) -> bytes:
    """Encode a number as LEB128: seven bits per byte, the lowest first."""
    parts = bytearray()
    while value > 127:
        parts.append(128 | value & 127)
        value >>= 7
    parts.append(value)
    return bytes(parts)


class _Numbers:
    """Reads numbers one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def next(self, most: int) -> int:
        """Read the next number. Raises: ValueError if it is larger, IndexError at the end."""
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128 or value > most:
                break
        if value > most:
            raise ValueError(f"{value} where at most {most} can be")
        return value
