"""Files that are either complete or absent: written under a temporary name, flushed, then renamed. Nothing is pickled."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["atomic_write", "read_json", "read_metadata", "read_tensors", "write_json", "write_tensors"]


T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. Its file replaces `path` in one step at the end, or is deleted after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata as one safetensors file, atomically.

    Raises:
        OSError: if the disk is full or not writable; an older file of that name stays as it was.
    """
    with atomic_write(path) as temporary:
        try:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, dict(metadata))
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, without its tensors.

    Raises:
        UserError: if the file is missing, truncated or of another format.
    """
    return _opened(path, "cpu", lambda file: dict(file.metadata() or {}))


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        UserError: if the file is missing, truncated or of another format.
    """

    def read(file: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118

    return _opened(path, device, read)


def _opened(path: Path, device: str, read: Callable[[Any], T]) -> T:
    """Apply `read` to an open safetensors file, whose length is checked against its header."""
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            return read(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; it is damaged or no safetensors file") from error
