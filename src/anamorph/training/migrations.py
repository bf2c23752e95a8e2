"""Read runs of older versions as if the present one had written them.

`config.json` and every checkpoint name their format. Each step of a migration converts one format to the next, and names
every setting. A setting that an old run lacks gets the value that reproduces that run, never the default of today.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from anamorph.core.config import to_plain
from anamorph.training import format_1

__all__ = [
    "FORMAT",
    "current_config",
    "current_metadata",
    "current_tensors",
    "format_1_config",
    "format_1_tensor",
    "new_option",
]

T = TypeVar("T")

FORMAT = 2
"""The format of config.json and of checkpoints; newer ones are refused."""


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the contents of a config.json of any format to the present format."""
    config = dict(config)
    return _config_from_1(config) if int(config["format"]) == 1 else config


def current_tensors(tensors: Mapping[str, T], old_format: int) -> dict[str, T]:
    """Rename the tensors of a checkpoint of any format to their present names."""
    if old_format > 1:
        return dict(tensors)
    return {_rename(name, forward=True): tensor for name, tensor in tensors.items()}


def current_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Convert the metadata of a checkpoint of any format to the present format."""
    if int(metadata.get("format", 1)) > 1:
        return dict(metadata)
    found = dict(metadata)
    if "progress" in found:
        found["progress"] = json.dumps(_renamed(json.loads(found["progress"]), format_1.PROGRESS))
    if "log" in found:
        log = json.loads(found["log"])
        log["diagnosis"] = _renamed(log.get("diagnosis", {}), format_1.DIAGNOSIS)
        found["log"] = json.dumps(_renamed(log, format_1.LOG))
    return found


def new_option(model: str, option: str) -> str | None:
    """Return the present name of a setting of a model that had another one: `rate` is now `learning_rate`. Otherwise None."""
    outer, _, inner = option.partition(".")
    names = format_1.MODEL_SETTINGS.get(model, {})
    found = names.get(outer, outer)
    if inner:
        found += "." + format_1.SUBSETTINGS.get(outer, {}).get(inner, inner)
    return found if found != option else None


def format_1_tensor(name: str) -> str:
    """Return the name that a tensor of a model had in format 1; fingerprints of that time depend on it."""
    return _rename(name, forward=False)


def format_1_config(module: str, config: Any) -> tuple[str, dict[str, Any]]:
    """Return the name that a module with settings had in format 1, and the settings that differed from the defaults then."""
    model = next((name for name in format_1.DEFAULTS if name.replace("_", "") == module.lower()), None)
    if model is None:  # a network within a model
        names = {new: old for old, new in format_1.SUBSETTINGS["decoder"].items()}
        settings = {names.get(name, name): value for name, value in to_plain(config).items()}
        defaults = format_1.DEFAULTS["audio_vqvae"]["decoder"]
    else:
        settings, defaults = _format_1_settings(model, to_plain(config)), format_1.DEFAULTS[model]
    return format_1.MODULES.get(module, module), {n: v for n, v in settings.items() if n in defaults and v != defaults[n]}


def _format_1_settings(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the settings of a model to the names and the values of format 1."""
    old_names = {new: old for old, new in format_1.MODEL_SETTINGS[model].items()}
    found = {}
    for name, value in settings.items():
        old = old_names.get(name, name)
        if isinstance(value, Mapping):
            inner = {new: old for old, new in format_1.SUBSETTINGS.get(old, {}).items()}
            value = {inner.get(key, key): v for key, v in value.items()}
        if old in format_1.VALUES:
            value = {new: old_value for old_value, new in format_1.VALUES[old].items()}.get(value, value)
        found[old] = value
    return found


def _rename(name: str, forward: bool) -> str:
    for before, old, new, after in format_1.TENSORS if forward else reversed(format_1.TENSORS):
        present, replacement = (old, new) if forward else (new, old)
        name = re.sub(f"({before}){re.escape(present)}(?={after})", rf"\g<1>{replacement}", name)
    return name


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}


def _config_from_1(config: Mapping[str, Any]) -> dict[str, Any]:
    found = _renamed(config, format_1.RUN_SETTINGS)
    model, held = str(found.get("model")), found.get("config", {})
    found["config"] = [_model_from_1(model, one) for one in held] if isinstance(held, list) else _model_from_1(model, held)
    if isinstance(found.get("compute"), Mapping):
        found["compute"] = _renamed(found["compute"], {"parts": "gradient_accumulation"})
    if isinstance(found.get("signal"), Mapping):
        found["signal"] = _renamed(found["signal"], {"rate": "sample_rate"})
    if isinstance(found.get("growing"), Mapping):
        found["growing"] = _renamed(found["growing"], format_1.GROWING)
    if isinstance(found.get("first_stage"), Mapping):
        found["first_stage"] = _config_from_1(found["first_stage"])
    return format_1.RUN_DEFAULTS | found | {"format": 2}


def _model_from_1(model: str, settings: Any) -> Any:
    """Convert a model's settings; those that were not written get the defaults of that time."""
    if not isinstance(settings, Mapping):
        return settings
    found = {}
    for name, value in _completed(settings, format_1.DEFAULTS.get(model, {})).items():
        if isinstance(value, Mapping):
            value = _renamed(value, format_1.SUBSETTINGS.get(name, {}))
        if name in format_1.VALUES and isinstance(value, str):
            value = format_1.VALUES[name].get(value, value)
        found[format_1.MODEL_SETTINGS.get(model, {}).get(name, name)] = value
    return found


def _completed(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _completed(settings[name], value)
        if isinstance(value, Mapping) and isinstance(settings.get(name), Mapping)
        else settings.get(name, value)
        for name, value in defaults.items()
    }
    return both | {name: settings[name] for name in _beside(settings, defaults)}


def _beside(settings: Iterable[str], defaults: Mapping[str, Any]) -> list[str]:
    return [name for name in settings if name not in defaults]
