"""Autoregressive distributions: each value given those before it."""
