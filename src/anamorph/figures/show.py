"""Write rows of signals: images as a picture; sounds as a picture of their spectrograms, with WAV files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.signal import Audio, Image, Signal
from anamorph.figures.grid import Row, as_picture, rows_of, save_picture, sheet
from anamorph.figures.wav import read_wav, write_wav

__all__ = ["WrittenFiles", "draw", "save_strip", "saved_strips", "show", "show_all"]

LIST = "sounds.json"


@dataclass(frozen=True)
class WrittenFiles:
    """Paths of written files: a picture, and for sounds also a WAV file or a folder of them."""

    picture: Path
    sounds: Path | None = None

    def __str__(self) -> str:
        return f"{self.picture}, {self.sounds}" if self.sounds else str(self.picture)

    @property
    def paths(self) -> dict[str, Path]:
        """The written files by kind: "path" of the picture, and "sounds" where there are any."""
        return {"path": self.picture} | ({"sounds": self.sounds} if self.sounds else {})


def draw(path: Path, signal: Signal, rows: Sequence[Row], title: str = "", headings: Sequence[str] = ()) -> Path:
    """Write rows of signals [n, *signal.shape] in [-1, 1] as a picture alone; returns its path, PATH.png (or .svg) for sounds.

    Raises: UserError if there is nothing to show, or more than fits into one picture.
    """
    if isinstance(signal, Image):
        save_picture(path, sheet(rows, title, headings))
        return path
    from anamorph.figures.spectrogram import save_spectrograms

    picture = path if path.suffix.lower() in (".png", ".svg") else path.with_suffix(".png")
    save_spectrograms(picture, rows, signal.sample_rate, title, headings)
    return picture


def show(path: Path, signal: Signal, rows: Sequence[Row], title: str = "", headings: Sequence[str] = ()) -> WrittenFiles:
    """Write rows of signals [n, *signal.shape] in [-1, 1]. Of sounds, PATH.png (or .svg) shows the spectrograms; a single one
    is written to PATH.wav, several to the folder PATH-sounds, named by row and column.

    Raises: UserError if there is nothing to show, or more than fits into one picture.
    """
    picture = draw(path, signal, rows, title, headings)
    if isinstance(signal, Image):
        return WrittenFiles(picture)
    named = list(_named(rows, headings))
    if len(named) == 1:
        write_wav(path.with_suffix(".wav"), named[0][1], signal.sample_rate)
        return WrittenFiles(picture, path.with_suffix(".wav"))
    folder = path.with_name(f"{path.stem}-sounds")
    _write_all(folder, dict(named), signal)
    return WrittenFiles(picture, folder)


def show_all(path: Path, signal: Signal, x: Tensor, columns: int | None = None, title: str = "") -> WrittenFiles:
    """Write signals [n, *signal.shape] in [-1, 1], in a square or in so many columns; see `show`."""
    return show(path, signal, rows_of(x, columns), title)


def _write_all(folder: Path, sounds: dict[str, Tensor], signal: Audio) -> None:
    """Write sounds by name and a list of them; remove those that only an earlier call wrote."""
    listed = folder / LIST
    try:
        old = {str(name) for name in read_json(listed)} if listed.is_file() else set()
    except (UserError, TypeError):
        old = set()
    for name, x in sounds.items():
        write_wav(folder / name, x, signal.sample_rate)
    for name in old - set(sounds):
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
    write_json(listed, list(sounds))


def _named(rows: Sequence[Row], headings: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield each sound with a file name, made of its row's caption, its number in the row, and its column's heading."""
    count: dict[str, int] = {}
    for row in rows:
        for column, x in enumerate(row.images):
            caption = _plain(row.caption)
            number = count.get(caption, 0)
            count[caption] = number + 1
            if x is not None:
                last = f"{number:02d}" + (f"-{_plain(headings[column])}" if column < len(headings) else "")
                yield f"{caption}-{last}.wav" if caption else f"{last}.wav", x


def _plain(text: str) -> str:
    """Replace characters that do not belong into a file name."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")


def save_strip(folder: Path, images: int, signal: Signal, cells: Sequence[Tensor]) -> None:
    """Save signals side by side as one file, named by the number of images that training has seen."""
    path = folder / f"{images:012d}"
    strip = torch.cat([cell.cpu() for cell in cells], -1)
    if isinstance(signal, Image):
        save_picture(path.with_suffix(".png"), as_picture(strip))
    else:
        write_wav(path.with_suffix(".wav"), strip, signal.sample_rate)


def saved_strips(folder: Path, signal: Signal) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the saved strips in order: the number of images seen, and the signals."""
    for path in sorted(folder.glob("*.png" if isinstance(signal, Image) else "*.wav")):
        if path.stem.isdigit():
            strip = _read_picture(path) if isinstance(signal, Image) else read_wav(path)
            yield int(path.stem), list(strip.split(signal.shape[-1], -1))


def _read_picture(path: Path) -> Tensor:
    """Read a picture as an image [C, H, W] in [-1, 1]."""
    with Pillow.open(path) as picture:
        array = np.atleast_3d(np.asarray(picture, np.float32)) / 127.5 - 1
    return torch.from_numpy(array).movedim(-1, 0)
