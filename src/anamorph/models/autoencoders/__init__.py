"""Autoencoders with real codes: plain and variational."""
