"""Signals as small files, and back: a model's codes, coded under the law that it has of them."""
