"""Experiments: one function each, resumable, that fill the tables of docs/results.md."""
