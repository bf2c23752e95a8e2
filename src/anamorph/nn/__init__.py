"""Layers that two models or more use."""
