"""The file format: what is written is read, and nothing else is."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamorph.coding.container import VERSION, Packed, pack, unpack
from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Image

ONE = Packed(b"8 bytes.", Image(3, 300, 20), 1, 7, ((129,),), ((480, 640),), b"payload", 2**32 - 5)
WHOLE = pack(ONE)
counts = st.integers(1, 4)


@st.composite
def packs(draw: st.DrawFn) -> Packed:
    count, width = draw(counts), draw(st.integers(0, 3))
    number = st.integers(0, 2**32)
    rows = st.tuples(*[st.tuples(*[number] * width)] * count) if width else st.just(())
    sizes = st.one_of(
        st.builds(Image, st.integers(1, 4), st.integers(1, 2**20), st.integers(1, 300)),
        st.builds(Audio, st.integers(1, 2), st.integers(1, 2**30), st.integers(1, 192_000)),
    )
    return Packed(
        draw(st.binary(min_size=8, max_size=8)),
        draw(sizes),
        count,
        draw(st.integers(0, 255)),
        draw(rows),
        draw(st.one_of(st.just(()), st.tuples(*[st.tuples(number, number)] * count))),
        draw(st.binary(max_size=300)),
        draw(st.integers(0, 2**32 - 1)),
    )


@given(packs())
def test_what_is_written_is_read(packed: Packed) -> None:
    data = pack(packed)
    assert unpack(data) == packed
    assert packed.header_bytes == len(data) - len(packed.payload)


def test_the_header_is_small() -> None:
    assert replace(ONE, labels=(), originals=(), signal=Image(1, 28, 28)).header_bytes == 30


def test_every_altered_bit_is_seen() -> None:
    for place in range(len(WHOLE)):
        for bit in range(8):
            altered = bytearray(WHOLE)
            altered[place] ^= 1 << bit
            with pytest.raises(UserError):
                unpack(bytes(altered))


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=9), st.booleans())
def test_every_altered_stretch_is_seen(place: int, other: bytes, inserted: bool) -> None:
    altered = WHOLE[:place] + other + WHOLE[place + (0 if inserted else len(other)) :]
    if altered == WHOLE:
        return
    with pytest.raises(UserError):
        unpack(altered)


def test_every_shorter_or_longer_file_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(UserError, match="cat.anam"):
            unpack(WHOLE[:length], "cat.anam")
    with pytest.raises(UserError, match="damaged or cut short"):
        unpack(WHOLE + b"\0", "cat.anam")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a file of"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a file of"),
        (b"anam", "damaged or cut short"),
        (b"anam" + bytes([VERSION + 1]) + bytes(50), f"has version {VERSION + 1} of the format"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        unpack(data)


@given(st.binary(max_size=60))
def test_any_bytes_with_a_true_checksum_are_read_or_refused(body: bytes) -> None:
    """Nobody's accident, but no reason to fail in another way, either."""
    sealed = b"anam" + bytes([VERSION]) + body
    try:
        unpack(sealed + zlib.crc32(sealed).to_bytes(4, "little"))
    except UserError as error:
        assert "does not follow the format" in str(error)  # noqa: PT017


def test_a_table_that_says_more_than_there_is_is_refused() -> None:
    for bad in (
        replace(ONE, count=0),
        replace(ONE, count=2**40),
        replace(ONE, count=9),
        replace(ONE, signal=Image(1, 1, 2**40)),
    ):
        with pytest.raises(UserError, match="does not follow the format"):
            unpack(pack(bad))
