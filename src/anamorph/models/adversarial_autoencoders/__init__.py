"""Adversarial networks that have an encoder, too."""
