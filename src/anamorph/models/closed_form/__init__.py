"""Distributions of codes in closed form: fitted by their moments or counts, without gradients."""
