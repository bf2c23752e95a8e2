"""Edits: pure functions on codes."""
