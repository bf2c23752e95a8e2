"""Small feature networks as files: safetensors, with what they are as JSON among its facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anamorph.core.config import from_plain
from anamorph.core.errors import UserError
from anamorph.core.files import read_tensors, write_tensors
from anamorph.core.signal import Image
from anamorph.features.compact import CompactClassifier, CompactNetwork
from anamorph.features.network import FeatureNetwork
from anamorph.features.pixels import PrincipalPixels

__all__ = ["read_network", "write_network"]

FORMAT = "anamorph features 1"


def write_network(path: Path, network: FeatureNetwork, trained: Mapping[str, Any]) -> None:
    """Write a compact network or principal pixels. trained: what is to be known of how it came about, such as the
    fingerprint of its images, their number and the seed.

    Raises: UserError for a network that has no such file.
    """
    if isinstance(network, CompactClassifier):
        what: dict[str, Any] = {"kind": "classifier", "classes": network.classes}
    elif isinstance(network, CompactNetwork):
        what = {"kind": "contrastive"}
    elif isinstance(network, PrincipalPixels):
        what = {"kind": "principal", "width": network.width}
    else:
        raise UserError(f"{network.name} is not kept as a file: it is made from its name, or from a published one")
    config = what | {"name": network.name, "image": asdict(network.image), "trained": dict(trained)}
    write_tensors(path, network.state_dict(), {"format": FORMAT, "config": json.dumps(config)})


def read_network(path: Path) -> tuple[FeatureNetwork, dict[str, Any]]:
    """Return a network that was written, ready to look; and what was noted of how it came about.

    Raises: UserError if the file is missing, damaged, of another format, or its tensors do not fit.
    """
    tensors, facts = read_tensors(path)
    if facts.get("format") != FORMAT:
        raise UserError(f"{path} holds no feature network: its format is {facts.get('format')!r}, wanted {FORMAT!r}")
    try:
        config = json.loads(facts["config"])
        image = from_plain(Image, config["image"], str(path))
        network = _built(config, image)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return network.eval().requires_grad_(False), config["trained"]


def _built(config: Mapping[str, Any], image: Image) -> FeatureNetwork:
    kind = config["kind"]
    if kind == "classifier":
        return CompactClassifier(image, config["name"], config["classes"])
    if kind == "contrastive":
        return CompactNetwork(image, config["name"])
    if kind == "principal":
        return PrincipalPixels(image, config["width"])
    raise UserError(f"a feature network of the unknown kind {kind!r}: it was written by a newer version")
