"""The image or sound files of a folder or a zip, with their labels: from dataset.json, a CSV, or the names of sub-folders."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np

from anamorph.core.errors import UserError
from anamorph.core.signal import Label
from anamorph.data.bounded_read import BROKEN, BadFile
from anamorph.data.decode_image import is_image_name
from anamorph.data.decode_sound import is_sound_name
from anamorph.data.order import Integers

__all__ = ["Listing", "classes_of", "in_files", "in_folder", "in_zip"]

LIMIT_BYTES = 512 << 20
"""One file's, unpacked."""
NUMBER = re.compile("-?[0-9]{1,18}")
"""What is a class's number; int() reads less than str.isdigit() takes for digits."""


Kind = Literal["images", "sounds"]
UNREAD_SOUNDS = (".m4a", ".aac", ".wma", ".amr", ".mka", ".webm")


@dataclass(frozen=True)
class Listing:
    """Image files or sound files, sorted by name: how to open each, and what distinguishes this content from another.

    open: raises BadFile or OSError for a file that cannot be read.
    splits: "train" and "test" where the top folders are named so, else empty.
    """

    kind: Kind
    names: list[str]
    open: Callable[[str], IO[bytes]]
    key: str
    labels: tuple[Label, ...] = ()
    values: Mapping[str, Integers] = field(default_factory=dict)
    splits: Mapping[str, Integers] = field(default_factory=dict)


def in_folder(root: Path) -> Listing:
    """Every image file, or every sound file, below a folder; hidden files and folders are left out.

    Raises: UserError if there are none, or both.
    """
    unread: list[str] = []
    stats: dict[str, os.stat_result] = {}
    extras: dict[str, bytes] = {}
    seen = {root.resolve()}
    for folder, below, files in os.walk(root, followlinks=True):
        here = Path(folder)
        below[:] = [name for name in below if not _hidden(name) and _first_visit(here / name, seen)]
        for file in files:
            path = here / file
            name = path.relative_to(root).as_posix()
            if not _hidden(file) and _reads(file) and path.is_file():
                stats[name] = path.stat()
            elif here == root and _describes(file):
                extras[name] = path.read_bytes()
            elif file.lower().endswith(UNREAD_SOUNDS):
                unread.append(name)
    if not stats and unread:
        raise UserError(
            f"{root} holds {min(unread)}, which is of a kind that is not read: convert such sounds to .flac or .wav"
        )
    if not stats:
        raise UserError(
            f"no images in {root}, and no sounds: it holds no file that Pillow reads, no .wav, .flac, .ogg or .mp3, and no "
            f"array (.npz, .npy) or IDX file"
        )
    facts = [(name, stats[name].st_size, stats[name].st_mtime_ns) for name in sorted(stats)]
    return _listing(root, facts, extras, lambda name: (root / name).open("rb"))


def in_files(paths: Sequence[Path | str]) -> Listing:
    """List image files, or sound files, in the order given; the folders below their common one are their labels.

    Raises:
        UserError: if a file is missing, or of a kind that is not read, or images and sounds are mixed.
    """
    files = [Path(path).expanduser().absolute() for path in paths]
    for path in files:
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        if not _reads(path.name):
            raise UserError(f"{path} is no image or sound file: convert it, or leave it out of the list")
    root = Path(os.path.commonpath([path.parent for path in files]))
    stats = [path.stat() for path in files]
    facts = [(p.relative_to(root).as_posix(), s.st_size, s.st_mtime_ns) for p, s in zip(files, stats, strict=True)]
    return _listing(root, facts, {}, lambda name: (root / name).open("rb"))


def in_zip(path: Path) -> Listing:
    """Every image file, or every sound file, in a zip, named as in the folder that it was made of, if all lie in one.

    Raises: UserError if it is no zip, is encrypted, or holds neither, or both.
    """
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN as error:
        raise UserError(f"{path} is damaged or no zip: {error}") from error
    members = _members(path, archive)
    images = sorted((name, info.file_size, info.CRC) for name, info in members.items() if _reads(name))
    if not images:
        raise UserError(f"no images in {path}, and no sounds")
    try:
        extras = {name: _unpacked(archive, info) for name, info in members.items() if "/" not in name and _describes(name)}
    except BadFile as error:
        raise UserError(f"cannot read the labels in {path}: {error}; make the zip again") from error
    return _listing(path, images, extras, lambda name: io.BytesIO(_unpacked(archive, members[name])))


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a zip, and what describes them, by their names below the one top folder that a packed folder
    leaves.
    """
    found = {}
    for info in archive.infolist():
        if info.is_dir() or any(_hidden(part) for part in PurePosixPath(info.filename).parts):
            continue
        if info.flag_bits & 1:
            raise UserError(f"{path} is encrypted: unpack it and name the folder")
        described = _describes(PurePosixPath(info.filename).name)
        if (described or _reads(info.filename)) and info.file_size <= LIMIT_BYTES:
            found[info.filename] = info
    tops = {name.partition("/")[0] if "/" in name else "" for name in found}
    if len(tops) != 1 or tops == {""}:
        return found
    return {name.partition("/")[2]: info for name, info in found.items()}


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except BROKEN as error:
        raise BadFile(f"{info.filename} cannot be unpacked ({error})") from error


def _reads(name: str) -> bool:
    return is_image_name(name) or is_sound_name(name)


def _kind(source: str, names: list[str]) -> Kind:
    """Return what some files are. Raises: UserError naming an image and a sound, if both are there."""
    sounds = [name for name in names if is_sound_name(name)]
    if sounds and len(sounds) < len(names):
        image = next(name for name in names if not is_sound_name(name))
        raise UserError(
            f"{source} holds {len(names) - len(sounds)} images, such as {image}, and {len(sounds)} sounds, such as "
            f"{sounds[0]}: put them into folders of their own"
        )
    return "sounds" if sounds else "images"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _first_visit(folder: Path, seen: set[Path]) -> bool:
    """Return whether a folder has not been walked yet, by whatever link."""
    real = folder.resolve()
    return not (real in seen or seen.add(real))  # type: ignore[func-returns-value]


def _describes(name: str) -> bool:
    return name == "dataset.json" or name.lower().endswith(".csv")


def _listing(
    root: Path, facts: list[tuple[str, int, int]], extras: Mapping[str, bytes], opener: Callable[[str], IO[bytes]]
) -> Listing:
    source, names = str(root), [name for name, _, _ in facts]
    kind = _kind(source, names)
    # Two folders may hold equal names, sizes and times, but other pixels: copies keep times, and raw formats sizes.
    key = hashlib.blake2b(repr((str(root.resolve()), facts)).encode(), digest_size=16).hexdigest()
    splits = _splits(names)
    if "dataset.json" in extras:
        labels = _from_json(source, names, extras["dataset.json"])
    elif extras:
        labels = _from_csv(source, names, _the_csv(source, extras))
    else:
        labels = _from_folders(names, depth=1 if splits else 0)
    return Listing(
        kind,
        names,
        opener,
        key,
        tuple(Label(name, classes) for name, (classes, _) in labels.items()),
        {name: values for name, (_, values) in labels.items()},
        splits,
    )


Labels = dict[str, tuple[tuple[str, ...], Integers]]


def _splits(names: list[str]) -> dict[str, Integers]:
    tops = [name.split("/", 1)[0] if "/" in name else "" for name in names]
    held = {"test", "val", "valid", "validation"} & set(tops)
    if "train" not in tops or not held or set(tops) - held - {"train"}:
        return {}
    train = np.array([top == "train" for top in tops])
    return {"train": np.flatnonzero(train), "test": np.flatnonzero(~train)}


def classes_of(values: list[str]) -> tuple[tuple[str, ...], Integers]:
    """Class names in order (as numbers, if all are numbers), and each value's index."""
    unique = set(values)
    numeric = all(NUMBER.fullmatch(value) for value in unique)
    classes = tuple(sorted(unique, key=lambda value: (int(value) if numeric else 0, value)))
    place = {value: i for i, value in enumerate(classes)}
    return classes, np.array([place[value] for value in values], np.int64)


def _from_folders(names: list[str], depth: int) -> Labels:
    parents = [PurePosixPath(name).parts[depth:-1] for name in names]
    if any(not parent for parent in parents) or len({parent[0] for parent in parents}) < 2:
        return {}
    return {"class": classes_of([parent[0] for parent in parents])}


def _from_json(source: str, names: list[str], text: bytes) -> Labels:
    """StyleGAN2-ADA's dataset.json: {"labels": [["00000/img.png", 6], ...]}."""
    try:
        pairs: list[Any] = json.loads(text).get("labels") or []
        found = {str(PurePosixPath(name)): str(int(value)) for name, value in pairs}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f'{source}/dataset.json is not {{"labels": [["file", class number], ...]}}: {error}') from error
    return {"class": classes_of(_for_each(source, "dataset.json", names, found))} if found else {}


def _the_csv(source: str, extras: Mapping[str, bytes]) -> bytes:
    if "labels.csv" in extras:
        return extras["labels.csv"]
    if len(extras) > 1:
        raise UserError(f"several CSV files in {source} ({', '.join(sorted(extras))}): name the one with labels labels.csv")
    return next(iter(extras.values()))


def _from_csv(source: str, names: list[str], text: bytes) -> Labels:
    """Read a CSV file: a header, then one row per file: its file name, then its labels."""
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text.decode("utf-8-sig"))) if row]
    except (ValueError, csv.Error) as error:
        raise UserError(f"the CSV in {source} is empty or not UTF-8: {error}") from error
    short = [row[0] for row in rows if len(row) < len(header)]
    if len(header) < 2 or short:
        raise UserError(
            f"the CSV in {source} wants a header, then a file name and its labels in each row; see {short[:1] or header}"
        )
    labels: Labels = {}
    for column, label in enumerate(header[1:], 1):
        found = {str(PurePosixPath(row[0].strip())): row[column].strip() for row in rows}
        labels[label.strip()] = classes_of(_for_each(source, "the CSV", names, found))
    return labels


def _for_each(source: str, where: str, names: list[str], found: Mapping[str, str]) -> list[str]:
    """Return the value of every file, by its path or, where those are unique, its bare name."""
    bare = {PurePosixPath(name).name for name in names}
    if len(bare) == len(names):
        found = {PurePosixPath(name).name: value for name, value in found.items()} | dict(found)
        values = [found.get(name, found.get(PurePosixPath(name).name)) for name in names]
    else:
        values = [found.get(name) for name in names]
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise UserError(
            f"{where} of {source} has no label for {len(missing)} of {len(names)} files, "
            f"for example {missing[0]}: add them, or remove the file to train without labels"
        )
    return [value for value in values if value is not None]
