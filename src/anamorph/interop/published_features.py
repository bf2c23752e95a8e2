"""Published weights of the standard feature networks, from files that are at hand, each known by its checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError, nearest
from anamorph.features.backbones import VGG16Features
from anamorph.features.inception import InceptionV3
from anamorph.features.network import FeatureNetwork
from anamorph.features.perceptual import LPIPS
from anamorph.interop.load_tensors import TensorTarget, load_tensors
from anamorph.interop.pickles import read_pickle

__all__ = ["BACKBONE_OF", "HEADS", "PUBLISHED", "Published", "read_heads", "read_published"]


@dataclass(frozen=True)
class Published:
    """A file that its authors have published. sha256: of it, or how that begins, as its name says. url: where it is.
    ignored: tensors in it, by the beginning of their names, that the network does not need."""

    file: str
    sha256: str
    url: str
    ignored: tuple[str, ...] = ()


_TORCH = "https://download.pytorch.org/models/"
PUBLISHED: Mapping[str, Published] = {
    "inception-v3-fid": Published(
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        ("AuxLogits.",),
    ),
    "vgg16": Published("vgg16-397923af.pth", "397923af", _TORCH + "vgg16-397923af.pth"),
    "alexnet": Published("alexnet-owt-7be5be79.pth", "7be5be79", _TORCH + "alexnet-owt-7be5be79.pth", ("classifier.",)),
    "squeezenet": Published("squeezenet1_1-b8a52dc0.pth", "b8a52dc0", _TORCH + "squeezenet1_1-b8a52dc0.pth", ("classifier.",)),
}
HEADS: Mapping[str, Published] = {
    network: Published(
        f"lpips_v0.1_{short}.pth",
        sha256,
        f"https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/{short}.pth",
    )
    for network, short, sha256 in (
        ("alexnet", "alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        ("squeezenet", "squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
        ("vgg16", "vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    )
}
BACKBONE_OF: Mapping[str, str] = {
    "inception-v3-fid": "inception-v3-fid",
    "vgg16-torchvision-fc2": "vgg16",
    **{f"lpips-{network}": network for network in HEADS},
}
"""Which file each standard network has its weights in; LPIPS has a head besides."""
_BUILT: Mapping[str, Callable[[], FeatureNetwork]] = {
    "inception-v3-fid": InceptionV3,
    "vgg16-torchvision-fc2": VGG16Features,
    **{f"lpips-{network}": lambda network=network: LPIPS(network) for network in HEADS},  # type: ignore[misc]
}


def read_published(name: str, folder: Path, files: Mapping[str, Published] = PUBLISHED) -> FeatureNetwork:
    """Return a standard feature network, ready to look, from the files of a folder; nothing in them is executed.

    files: what is known of the files of backbones, by name.
    Raises: UserError for an unknown name; naming the file and where it is published, if it is not at hand; and for a file whose
    checksum or tensors are not those that were published.
    """
    if name not in BACKBONE_OF:
        raise UserError(f"no standard feature network is called {name!r}: {nearest(name, BACKBONE_OF)}")
    network, backbone = _BUILT[name](), BACKBONE_OF[name]
    tensors = _checked(folder, files[backbone])
    wanted = network.state_dict()
    heads = isinstance(network, LPIPS)
    tensor_targets = {key: TensorTarget(value) for key, value in wanted.items() if not key.startswith("heads.")}
    dropped = (*files[backbone].ignored, *(("classifier.",) if heads else ()))
    known = {key: value for key, value in tensors.items() if not key.startswith(dropped)} if dropped else dict(tensors)
    for key, place in tensor_targets.items():
        if key.endswith("num_batches_tracked") and key not in known:
            known[key] = place.target
    load_tensors(tensor_targets, known, files[backbone].file)
    if isinstance(network, LPIPS):
        read_heads(network, folder)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def read_heads(network: LPIPS, folder: Path) -> None:
    """Bring the published heads of an LPIPS network into it.

    Raises: UserError as `read_published`.
    """
    file = HEADS[network.network]
    tensor_targets = {f"lin{i}.model.1.weight": TensorTarget(head) for i, head in enumerate(network.heads)}
    load_tensors(tensor_targets, _checked(folder, file), file.file)


def _checked(folder: Path, file: Published) -> dict[str, Tensor]:
    """Return the tensors of a file by name, if it is the one that was published."""
    path = folder / file.file
    if not path.is_file():
        raise UserError(
            f"{path} is not at hand: fetch it from {file.url}, or use a feature network that is trained on your images"
        )
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(file.sha256):
        raise UserError(
            f"{path} is not the file that was published: its SHA-256 begins {digest.hexdigest()[:8]}, wanted "
            f"{file.sha256[:8]}; fetch it again from {file.url}"
        )
    found: Any = read_pickle(path)
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds no tensors by name")
    return {name: value.detach() if isinstance(value, nn.Parameter) else value for name, value in found.items()}
