"""Feature networks for a source's images: known ones by name, or a compact one that is trained on them and saved."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anamorph.core.errors import UserError, nearest
from anamorph.core.files import atomic_write, read_metadata
from anamorph.core.progress import Progress, no_progress
from anamorph.data.images import Images
from anamorph.data.shards import cache_folder
from anamorph.features.learn import CONTRASTIVE, SUPERVISED, accuracy, train_classifier, train_contrastive
from anamorph.features.network import ClassifierNetwork, DistanceNetwork, FeatureNetwork
from anamorph.features.network_files import read_network, write_network
from anamorph.features.perceptual import SMALLEST
from anamorph.features.pixels import RawPixels, fit_principal, network_image
from anamorph.interop.published_features import BACKBONE_OF, HEADS, PUBLISHED, read_published

__all__ = [
    "BUILT_IN",
    "FeatureNetworks",
    "add_network",
    "add_published",
    "choose_networks",
    "describe_network",
    "features_folder",
    "fetch_published",
    "has_published_files",
    "known_networks",
    "published_folder",
    "train_network",
]

BUILT_IN = {
    "pixels": "all pixels, of larger images in 32",
    "pixels-pca": "the 64 directions in which the pixels of the source vary most",
}
HELD = 2000
"""Held-out images for the accuracy of a classifier."""


@dataclass(frozen=True)
class FeatureNetworks:
    """The feature networks of an evaluation.

    Args:
        samples: for distances between distributions, and classes.
        neighbours: for precision, recall, density, coverage, diversity and copies.
        distance: for distances of images, path length and smoothness.
    """

    samples: FeatureNetwork
    neighbours: FeatureNetwork
    distance: FeatureNetwork

    @staticmethod
    def same(network: FeatureNetwork) -> FeatureNetworks:
        return FeatureNetworks(network, network, network)

    def to(self, device: torch.device | str) -> FeatureNetworks:
        """Return the same networks on a device."""
        return FeatureNetworks(self.samples.to(device), self.neighbours.to(device), self.distance.to(device))

    @property
    def all(self) -> list[FeatureNetwork]:
        """Each network once."""
        return list({network.fingerprint: network for network in (self.samples, self.neighbours, self.distance)}.values())

    def index(self, network: FeatureNetwork) -> int:
        """Return where a network stands among all."""
        return [other.fingerprint for other in self.all].index(network.fingerprint)

    @property
    def classifier(self) -> ClassifierNetwork | None:
        """That of samples, if it knows classes."""
        return self.samples if isinstance(self.samples, ClassifierNetwork) else None


def features_folder() -> Path:
    """Return where feature networks are kept."""
    return cache_folder() / "features"


def known_networks() -> dict[str, dict[str, Any]]:
    """Return the networks that were trained or added, by name, with what is known of each."""
    found = {}
    for path in sorted(features_folder().glob("*.safetensors")):
        config = json.loads(read_metadata(path).get("config", "{}"))
        found[path.stem] = {"path": str(path)} | config
    return found


def choose_networks(name: str, train: Images, held: Images, progress: Progress = no_progress) -> FeatureNetworks:
    """Return the networks of a name. auto: the standard ones as far as their files are at hand; else the compact one of the
    source, trained now if it never was.

    Raises: UserError for a name that is not known, or a source that no network can learn from.
    """
    if name == "auto":
        return _auto(train, held, progress)
    if name in BACKBONE_OF:
        return FeatureNetworks.same(read_published(name, published_folder()))
    if name == "pixels":
        return FeatureNetworks.same(RawPixels(network_image(train.signal)))
    if name == "pixels-pca":
        return FeatureNetworks.same(
            fit_principal(train, min(64, train.size - 1, network_image(train.signal).num_values), progress=progress)
        )
    known = known_networks()
    if name not in known:
        raise UserError(f"no feature network {name!r}: {nearest(name, ['auto', *BUILT_IN, *known, *BACKBONE_OF])}")
    return FeatureNetworks.same(read_network(Path(known[name]["path"]))[0])


def _auto(train: Images, held: Images, progress: Progress) -> FeatureNetworks:
    """Return the standard networks whose files are at hand and that can see images of this size; else a compact one."""
    wanted = {"samples": "inception-v3-fid", "neighbours": "vgg16-torchvision-fc2", "distance": "lpips-vgg16"}
    small = min(train.signal.height, train.signal.width) < SMALLEST["vgg16"]
    known = {role: name for role, name in wanted.items() if has_published_files(name) and not (role == "distance" and small)}
    found = {role: read_published(name, published_folder()) for role, name in known.items()}
    if len(found) < len(wanted):
        own = _of_source(train, held, progress)
        found = {role: found.get(role, own) for role in wanted}
    return FeatureNetworks(**found)


def published_folder() -> Path:
    """Return where the published files of standard networks are looked for."""
    return features_folder() / "published"


def has_published_files(name: str) -> bool:
    """Return whether the files of a standard network are."""
    files = [PUBLISHED[BACKBONE_OF[name]].file]
    if name.startswith("lpips-"):
        files.append(HEADS[BACKBONE_OF[name]].file)
    return all((published_folder() / file).is_file() for file in files)


def _of_source(train: Images, held: Images, progress: Progress) -> FeatureNetwork:
    path = features_folder() / f"{_title(train)}-{train.fingerprint}.safetensors"
    if path.is_file():
        return read_network(path)[0]
    return train_network(train, held, path=path, progress=progress)[0]


def train_network(
    train: Images,
    held: Images,
    name: str = "",
    images: int | None = None,
    seed: int = 0,
    path: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[FeatureNetwork, dict[str, Any]]:
    """Return a compact network trained on a source, with its labels where it has some, and kept under its name; and what is
    noted of it: the fingerprint of its images, how many it saw, and, of a classifier, how often it is right on held-out ones.

    Raises: UserError if known are no images to learn from.
    """
    name = name or _title(train)
    taught = any(len(label.classes) > 1 for label in train.labels)
    images = images or (SUPERVISED if taught else CONTRASTIVE)
    facts: dict[str, Any] = {"source": train.name, "fingerprint": train.fingerprint, "images": images, "seed": seed}
    if taught:
        network: FeatureNetwork = train_classifier(train, name, images, seed, progress)
        facts["accuracy"] = accuracy(network, held, min(HELD, held.size))  # type: ignore[arg-type]
    else:
        network = train_contrastive(train, name, images, seed, progress)
    write_network(path or features_folder() / f"{_named(name)}.safetensors", network, facts)
    return network, facts


def _title(train: Images) -> str:
    """Return a title such as mnist-classifier."""
    taught = any(len(label.classes) > 1 for label in train.labels)
    return f"{_named(Path(train.name).name)}-{'classifier' if taught else 'contrastive'}"


def _named(name: str) -> str:
    """Return a name that a file may have.

    Raises: UserError if nothing is left of it, or it is one that has a meaning.
    """
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    if not found or found in ("auto", *BUILT_IN):
        raise UserError(f"a feature network cannot be called {name!r}: choose another name")
    return found


def add_network(name: str, file: Path) -> FeatureNetwork:
    """Return a network's file, copied to where networks are kept, under a name.

    Raises: UserError if it is no such file, or the name is taken.
    """
    network, _ = read_network(file)
    path = features_folder() / f"{_named(name)}.safetensors"
    if path.exists():
        raise UserError(f"there is a feature network {name!r} already ({path}): choose another name, or remove it")
    with atomic_write(path) as temporary:
        shutil.copyfile(file, temporary)
    return network


def add_published(name: str, file: Path) -> Path:
    """Return a published file of a standard network (its backbone, or the heads of LPIPS), checked and copied to where they
    are kept.

    Raises: UserError if it is not a file that was published for it.
    """
    wanted = [PUBLISHED[BACKBONE_OF[name]], *([HEADS[BACKBONE_OF[name]]] if name.startswith("lpips-") else [])]
    digest = _digest(file)
    found = next((known for known in wanted if digest.startswith(known.sha256)), None)
    if found is None:
        names = " or ".join(f"{known.file} ({known.url})" for known in wanted)
        raise UserError(f"{file} is not a file that was published for {name} (its SHA-256 begins {digest[:8]}): wanted {names}")
    path = published_folder() / found.file
    with atomic_write(path) as temporary:
        shutil.copyfile(file, temporary)
    return path


def fetch_published(name: str) -> list[Path]:
    """Return the published files of a standard network, fetched to where they are kept if they are not known, and checked.

    Raises: UserError telling where to put them, if they cannot be fetched or are not what was published.
    """
    wanted = [PUBLISHED[BACKBONE_OF[name]], *([HEADS[BACKBONE_OF[name]]] if name.startswith("lpips-") else [])]
    for known in wanted:
        path = published_folder() / known.file
        if not path.is_file():
            try:
                with urllib.request.urlopen(known.url, timeout=30) as answer, atomic_write(path) as temporary:
                    with temporary.open("wb") as file:
                        shutil.copyfileobj(answer, file)
                    if not _digest(temporary).startswith(known.sha256):
                        raise UserError(f"{known.url} is not the file that was published: fetch it otherwise, to {path}")
            except OSError as error:
                raise UserError(f"cannot fetch {known.url} ({error}): put it at {path}") from error
    return [published_folder() / known.file for known in wanted]


def _digest(file: Path) -> str:
    if not file.is_file():
        raise UserError(f"no such file: {file}")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def describe_network(network: FeatureNetwork) -> str:
    """Return what a network is, in a line."""
    does = (
        ["features"]
        + ["classes"] * isinstance(network, ClassifierNetwork)
        + ["distances"] * isinstance(network, DistanceNetwork)
    )
    return f"{network.name}: {network.width} {', '.join(does)}; {network.resizer}"
