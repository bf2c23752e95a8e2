"""Cases computed by reference implementations: the cut ones that are committed, and the full set under $ANAMORPH_GOLDEN."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

COMMITTED = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Case:
    """One reference case: its facts, and its tensors by the origin's own names."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def parameter(self, name: str) -> Tensor:
        """A weight; large ones are stored as whole numbers times a power of two."""
        if f"param_int8/{name}" in self.tensors:
            return self.tensors[f"param_int8/{name}"].float() * self.facts["int8_scales"][name]
        return self.tensors[f"param/{name}"]

    def close(self, got: Tensor, key: str, atol: float, rtol: float = 0.0) -> None:
        """Assert that a tensor agrees with the recorded one."""
        torch.testing.assert_close(got.detach(), self.tensors[key], atol=atol, rtol=rtol)


def _load(folder: Path, name: str) -> Case:
    facts = json.loads((folder / f"{name}.json").read_text())
    files = facts.get("tensor_files", [f"{Path(name).name}.safetensors"])
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= load_file((folder / name).parent / file)
    return Case(facts, tensors)


def committed(name: str) -> Case:
    """A cut case that travels with the project."""
    return _load(COMMITTED, name)


def full(name: str) -> Case:
    """A case of the full set; skips the test, saying so, where that is not at hand."""
    folder = os.environ.get("ANAMORPH_GOLDEN")
    if not folder or not (Path(folder) / f"{name}.json").is_file():
        pytest.skip(f"the full reference case {name} is not at hand: set ANAMORPH_GOLDEN to its folder")
    return _load(Path(folder), name)
