"""Reading what is packed or claims a size: never more memory than the bytes that are there, whatever the claim."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from typing import IO

__all__ = ["BROKEN", "BadFile", "read_at_most"]

BROKEN = (OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What a damaged zip raises; a RuntimeError where a member is encrypted, or packed in a way that Python does not know."""
STEP = 1 << 20


class BadFile(Exception):
    """A file that cannot be used, and why."""


def read_at_most(file: IO[bytes], count: int) -> bytearray:
    """Return the next `count` bytes of a file, or as many as there are."""
    data = bytearray()
    while len(data) < count and (block := file.read(min(STEP, count - len(data)))):
        data += block
    return data
