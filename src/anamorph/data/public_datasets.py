"""The public sets that are known by name: where their files are looked for, what they are, and under which licence."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write
from anamorph.data.shards import cache_folder

__all__ = ["PUBLIC_DATASETS", "PublicDataset", "local_folder", "locate"]


@dataclass(frozen=True)
class PublicDataset:
    """A public set: its folder under $ANAMORPH_DATA or the user's cache, the files it consists of, and where to get them.

    files: name -> SHA-256. url: what a file's name is appended to; empty where there is no stable address.
    """

    folder: str
    description: str
    licence: str
    files: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


def _idx(train_x: str, train_y: str, test_x: str, test_y: str) -> dict[str, str]:
    return {
        "train-images-idx3-ubyte.gz": train_x,
        "train-labels-idx1-ubyte.gz": train_y,
        "t10k-images-idx3-ubyte.gz": test_x,
        "t10k-labels-idx1-ubyte.gz": test_y,
    }


PUBLIC_DATASETS = {
    "mnist": PublicDataset(
        "mnist",
        "70,000 handwritten digits, 28x28 grey; 60,000 to train",
        "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
        _idx(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion-mnist": PublicDataset(
        "fashion_mnist",
        "70,000 pieces of clothing, 28x28 grey; 60,000 to train",
        "MIT (Zalando SE)",
        _idx(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    "eurosat": PublicDataset(
        "eurosat",
        "5,000 satellite tiles in 10 classes, 64x64 RGB; 4,500 to train",
        "MIT (Helber); contains modified Copernicus Sentinel data",
        {"eurosat64_rgb.npz": "c621ff4b6f4f78852bf47a9257a7fc5132c51a0be7412ec38d931cad365630ba"},
    ),
    "avatars-cats": PublicDataset(
        "avatars",
        "324,000 cats composed of 5 layers of parts, 128x128 RGB, the parts as labels",
        "CC BY 4.0 (David Revoy)",
        {"cats128_parts_rgba.npz": "39dbcc65682b13a780611ac8016dcdd84440095602f944b03f0f667c18e5b89d"},
    ),
    "avatars-people": PublicDataset(
        "avatars",
        "400,000 people composed of 8 layers of parts, 128x128 RGB, the parts as labels",
        "free for personal and commercial use (Pablo Stanley)",
        {"people128_parts_rgba.npz": "a849d0624db720d5a608748c0ad82342d0aaaad306127a0371512ef366c4e176"},
    ),
    "emoji": PublicDataset(
        "noto_emoji",
        "3,573 emoji, 64x64 RGBA; a tenth of the designs held out",
        "Apache-2.0 (Google, Noto Emoji)",
        {"noto_emoji64_rgba.npz": "18aba569d9a963737b9f68185ddef14408660c938106008958fd2f06b8430523"},
    ),
    "fsdd": PublicDataset(
        "fsdd",
        "3,000 spoken digits of six speakers, 8 kHz mono, the digit and the speaker as labels; 2,700 to train",
        "CC BY-SA 4.0 (Free Spoken Digit Dataset, Jackson et al.)",
        {"fsdd_8k_int16.npz": "7c84f1e74c1a73f138684794fccad5be98fa567ecf7bb1f60a809fb1388b9f1d"},
    ),
}


def local_folder(known: PublicDataset) -> Path | None:
    """Return the folder that holds all files of a named dataset, if there is one."""
    places = [Path(os.environ["ANAMORPH_DATA"])] if "ANAMORPH_DATA" in os.environ else []
    for place in (*places, cache_folder() / "sets"):
        if all((place / known.folder / file).is_file() for file in known.files):
            return place / known.folder
    return None


def locate(name: str) -> Path:
    """Return the folder with the files of a named dataset, downloaded into the user's cache if needed.

    Raises: UserError telling where to put them, if they cannot be fetched or are not what they should be.
    """
    known = PUBLIC_DATASETS[name]
    place = local_folder(known)
    if place:
        return place
    folder = cache_folder() / "sets" / known.folder
    remedy = f"put {', '.join(known.files)} into $ANAMORPH_DATA/{known.folder} or {folder}"
    if not known.url:
        raise UserError(f"the set {name} is not at hand, and has no stable address to fetch it from: {remedy}")
    for file, digest in known.files.items():
        if not (folder / file).is_file():
            _fetch(known.url + file, folder / file, digest, f"the set {name} is not at hand: {remedy}")
    return folder


def _fetch(url: str, path: Path, digest: str, remedy: str) -> None:
    with atomic_write(path) as temporary:
        checksum = hashlib.sha256()
        try:
            with urllib.request.urlopen(url, timeout=30) as response, temporary.open("wb") as file:
                while block := response.read(1 << 20):
                    checksum.update(block)
                    file.write(block)
        except OSError as error:
            raise UserError(f"cannot fetch {url} ({error}); {remedy}") from error
        if checksum.hexdigest() != digest:
            raise UserError(f"{url} has another content than expected (SHA-256 {checksum.hexdigest()}); {remedy}")
