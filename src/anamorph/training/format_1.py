"""Format 1 of runs, as it was until everything got the field's own names: what was called what, and the defaults of its time.

Frozen: runs of that format are read through these tables (`anamorph.training.migrations`).
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

__all__ = [
    "DEFAULTS",
    "DIAGNOSIS",
    "GROWING",
    "LOG",
    "MODEL_SETTINGS",
    "MODULES",
    "PROGRESS",
    "RUN_DEFAULTS",
    "RUN_SETTINGS",
    "SUBSETTINGS",
    "TENSORS",
    "VALUES",
]

RUN_SETTINGS = {
    "machine": "compute",
    "rate": "sample_rate",
    "names": "name_pattern",
    "best": "best_metric",
    "first": "first_stage",
}
"""Settings of a run, old name to new name."""
RUN_DEFAULTS: dict[str, Any] = {
    "size": None,
    "channels": None,
    "upscale": False,
    "sample_rate": None,
    "window": None,
    "hop": None,
    "name_pattern": "",
    "labels": None,
    "mirror": False,
    "batch": 128,
    "seed": 0,
    "pictures": None,
    "growing": None,
    "level": 0,
    "lr_schedule": None,
    "evaluate_every": None,
    "best_metric": "",
    "codes_of": "",
    "first_stage": None,
}
"""Settings of a run by their present names, with the values that reproduce a run which does not name them."""
GROWING = {
    "rates": "lr_scales",
    "first": "initial_images",
    "fade": "fade_images",
    "stable": "stable_images",
    "ramp": "fade_curve",
    "warmup": "warmup_images",
}
PROGRESS = {"era": "optimizer_epoch", "blend": "alpha"}
"""How far a checkpoint has come."""
LOG = {"looked": "checked_at"}
"""A checkpoint's log."""
DIAGNOSIS = {"told": "warned"}
"""The diagnosis in a checkpoint's log."""
MODEL_SETTINGS: dict[str, dict[str, str]] = {
    "alae": {"inner": "resolution", "objective": "adversarial_loss", "rate": "learning_rate", "mean_beta": "w_mean_beta"},
    "audio_vqvae": {
        "hears": "encoder_input",
        "blocks": "residual_blocks",
        "maps": "codes_per_position",
        "vocabulary": "num_embeddings",
        "code_dim": "embedding_dim",
        "learning": "codebook_update",
        "commitment": "commitment_cost",
        "decay": "ema_decay",
        "restart": "restart_threshold",
        "kmeans": "kmeans_init",
        "told": "condition_channels",
        "spectrum": "spectrum_weight",
        "noise": "input_noise",
        "components": "mixture_components",
        "speakers": "num_speakers",
        "rate": "learning_rate",
    },
    "autoencoder": {"rate": "learning_rate"},
    "gan": {"objective": "adversarial_loss", "rate": "learning_rate"},
    "stylealae": {
        "mapping_rate": "mapping_lr_multiplier",
        "reads": "w_from",
        "judges": "critic_input",
        "channels": "channel_base",
        "most_channels": "channel_max",
        "mixing": "style_mixing_prob",
        "mean_beta": "w_mean_beta",
        "objective": "adversarial_loss",
        "rate": "learning_rate",
    },
    "stylegan": {
        "mapping_rate": "mapping_lr_multiplier",
        "channels": "channel_base",
        "most_channels": "channel_max",
        "classes": "num_classes",
        "constant": "constant_input",
        "smooth": "blur",
        "mixing": "style_mixing_prob",
        "group": "mbstd_group_size",
        "mean_beta": "w_mean_beta",
        "objective": "adversarial_loss",
        "rate": "learning_rate",
    },
    "vae": {
        "blocks": "residual_blocks",
        "inner": "residual_channels",
        "law": "likelihood_config",
        "objective": "bound",
        "samples": "importance_samples",
        "warm_up": "kl_warmup",
        "rate": "learning_rate",
    },
    "vqvae": {
        "blocks": "residual_blocks",
        "inner": "residual_channels",
        "maps": "codes_per_position",
        "vocabulary": "num_embeddings",
        "code_dim": "embedding_dim",
        "levels": "fsq_levels",
        "learning": "codebook_update",
        "commitment": "commitment_cost",
        "decay": "ema_decay",
        "restart": "restart_threshold",
        "kmeans": "kmeans_init",
        "law": "likelihood_config",
        "rate": "learning_rate",
    },
    "vqvae2": {
        "levels": "num_levels",
        "blocks": "residual_blocks",
        "inner": "residual_channels",
        "vocabulary": "num_embeddings",
        "code_dim": "embedding_dim",
        "commitment": "commitment_cost",
        "decay": "ema_decay",
        "restart": "restart_threshold",
        "kmeans": "kmeans_init",
        "rate": "learning_rate",
    },
    "gaussian": {"classes": "num_classes"},
    "mixture": {"components": "num_components", "classes": "num_classes"},
    "pixelcnn": {
        "first": "first_kernel_size",
        "kernel": "kernel_size",
        "head": "head_channels",
        "told": "condition_channels",
        "classes": "num_classes",
        "rate": "learning_rate",
    },
    "pixelsnail": {
        "inner": "residual_channels",
        "kernel": "kernel_size",
        "residual": "residual_blocks",
        "head": "output_blocks",
        "attend": "attention_max_positions",
        "heads": "attention_heads",
        "told": "condition_channels",
        "told_blocks": "condition_blocks",
        "classes": "num_classes",
        "rate": "learning_rate",
    },
    "wavenet": {
        "net": "network",
        "components": "mixture_components",
        "told": "condition_channels",
        "classes": "num_classes",
        "rate": "learning_rate",
    },
}
"""Settings of each model."""
SUBSETTINGS: dict[str, dict[str, str]] = {
    "law": {"features": "condition_channels"},
    "decoder": {
        "cycle": "dilation_cycle",
        "kernel": "kernel_size",
        "width": "residual_channels",
        "inner": "gate_channels",
        "skip": "skip_channels",
        "head": "head_channels",
        "scaled": "scale_sums",
        "normed": "weight_norm",
    },
    "net": {
        "cycle": "dilation_cycle",
        "kernel": "kernel_size",
        "width": "residual_channels",
        "inner": "gate_channels",
        "skip": "skip_channels",
        "head": "head_channels",
        "scaled": "scale_sums",
        "normed": "weight_norm",
    },
}
"""Settings within settings, by the old name of the outer one."""
VALUES: dict[str, dict[Any, Any]] = {"learning": {"average": "ema", "loss": "gradient"}}
"""Values that changed, by the old name of their setting."""
MODULES = {"WaveNetStack": "DilatedStack"}
"""Classes of modules that have settings, new name to old name."""
DEFAULTS: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath("format_1.json").read_text("utf-8"))
"""What a setting was when a config.json does not name it, by model, in old names."""
TENSORS: tuple[tuple[str, str, str, str], ...] = (
    # what stands before, old name, new name, what stands behind (patterns); in this order, or back in the reverse order
    ("^", "average", "ema", "/"),
    ("^", "memory", "loss_state", "/"),
    ("^loss_state/", "seen", "images_seen", "$"),
    ("^optimizer/", "inward", "encoder", "/"),
    ("^optimizer/", "outward", "generator", "/"),
    ("^optimizer/", "judging", "critic", "/"),
    ("^optimizer/.*/", "first", "exp_avg", r"\."),
    ("^optimizer/.*/", "second", "exp_avg_sq", r"\."),
    ("^optimizer/.*/", "counts", "steps", "$"),
    (r"(?:^|/)", "first", "first_stage", r"\."),
    (r"(?:^|/|first_stage\.)encoder\.", "first", "input", r"\."),
    (r"(?:^|/|first_stage\.)", "mean", "w_mean_tracker", r"\.mean$"),
    (r"(?:^|/|first_stage\.)", "judge", "critic_encoder", r"\."),
    (r"(?:^|/|first_stage\.)", "reader", "condition_net", r"\."),
    (r"(?:^|/|first_stage\.)", "law", "likelihood", r"\."),
    (r"(?:^|/|first_stage\.)", "enlarge", "upsample", r"\."),
    (r"levels\.\d+\.", "inform", "decode_to_finer", r"\."),
    (r"(?:^|/)prior\.(?:parts\.\d+\.)?", "told", "conditioning", r"\."),
    (r"\.", "told", "condition", r"\."),
    (r"\.", "aside", "auxiliary", r"\."),
    (r"(?:^|/)prior\.", "parts", "stages", r"\."),
    (r"(?:^|/)prior\.(?:stages\.\d+\.)?", "centres", "means", "$"),
    (r"(?:^|/)prior\.(?:stages\.\d+\.)?", "roots", "cholesky", "$"),
    (r"(?:^|/)prior\.(?:stages\.\d+\.)?", "age", "updates", "$"),
)
"""Names of tensors in checkpoints."""
