"""Distributions of real codes in closed form."""
