"""Which model a compressed file belongs to: a fingerprint of its weights and settings, in this version and in older ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from anamorph.core.config import to_plain
from anamorph.core.fingerprint import fingerprint_of
from anamorph.models.two_stage import TwoStageModel
from anamorph.training.migrations import format_1_config, format_1_tensor

__all__ = ["FINGERPRINT_BYTES", "fingerprint", "older_fingerprints"]

FINGERPRINT_BYTES = 8

Described = tuple[str, str, dict[str, Any]]
"""A module's name, its class, and its settings that are not at their defaults."""


def fingerprint(model: TwoStageModel) -> bytes:
    """Return a fingerprint of the weights and settings of both stages, 8 bytes.

    A setting at its default is left out, so that a setting that is added later changes no fingerprint.
    """
    described = [
        (name, type(module).__name__, _changed_settings(config))
        for name, module in model.named_modules()
        if (config := _config(module))
    ]
    return _digest(model, fingerprint_of(model), described)


def older_fingerprints(model: TwoStageModel) -> list[bytes]:
    """Return the fingerprints that older versions gave this model, so that their files still open."""
    described = [
        (format_1_tensor(f"{name}.").removesuffix("."), *format_1_config(type(module).__name__, config))
        for name, module in model.named_modules()
        if (config := _config(module))
    ]
    return [_digest(model, fingerprint_of(model, rename=format_1_tensor), described)]


def _digest(model: TwoStageModel, weights: str, described: list[Described]) -> bytes:
    lines = [str(model.signal), *map(str, model.prior.spaces), *map(str, model.prior.conditions), weights]
    lines += [f"{name} {kind} {json.dumps(settings, sort_keys=True)}" for name, kind, settings in described]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=FINGERPRINT_BYTES).digest()


def _config(module: Any) -> Any:
    """Return the settings of a module; None if it has none of its own."""
    config = getattr(module, "config", None)
    return config if dataclasses.is_dataclass(config) else None


def _changed_settings(config: Any) -> dict[str, Any]:
    """Return the settings that are not at their defaults."""
    values = {f.name: (getattr(config, f.name), f.default) for f in dataclasses.fields(config)}
    return {name: to_plain(value) for name, (value, default) in values.items() if value != default}
