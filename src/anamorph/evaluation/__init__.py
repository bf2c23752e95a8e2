"""Runs measured by the same yardsticks: what a model can do decides what is measured; tables and pages of it."""
