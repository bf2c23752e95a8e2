"""Compress signals to small files: a model's codes, entropy-coded under its prior."""
