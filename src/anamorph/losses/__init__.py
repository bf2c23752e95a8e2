"""Losses: scalar functions of tensors."""
