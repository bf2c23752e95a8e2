"""What a client can ask for at most. Everything that comes from outside is held against these."""

from __future__ import annotations

__all__ = [
    "BODY_BYTES",
    "CHANNELS",
    "DEPTH",
    "FILM_FRAMES",
    "FOUND_BYTES",
    "GRID_SIDE",
    "JOBS",
    "MAPPED",
    "MESSAGE_BYTES",
    "MODELS",
    "NAME",
    "NODES",
    "PICTURES",
    "SEED",
    "STEPS",
    "UPLOADED_BYTES",
    "UPLOAD_BYTES",
    "UPLOAD_MEGAPIXELS",
    "UPLOAD_SECONDS",
    "VALUES",
    "WAITING",
]

PICTURES = 64
"""Pictures that one request may ask for."""
NODES = 400
"""Parts that all points of one request may have together."""
DEPTH = 40
"""How deep a point may be nested."""
MESSAGE_BYTES = 256 * 1024
"""Of one WebSocket message from a client."""
BODY_BYTES = 1 << 20
"""Of a JSON request."""
UPLOAD_BYTES = 16 << 20
"""Of one uploaded file."""
UPLOAD_MEGAPIXELS = 40
"""Of an uploaded image, before it is fitted to the model."""
UPLOAD_SECONDS = 600
"""Of an uploaded sound, of which a model takes the beginning."""
UPLOADED_BYTES = 256 << 20
"""Of all uploaded images that are kept; those looked at longest ago go first."""
FOUND_BYTES = 256 << 20
"""Of all codes that were found by optimisation, or uploaded, and are kept."""
VALUES = 1 << 27
"""Numbers in the pictures of one request: 42 of 1024x1024."""
CHANNELS = 16
"""Streams of pictures on one connection."""
WAITING = 256
"""Requests that may wait for one model."""
MODELS = 4
"""Models that are kept in memory; the one used longest ago goes first."""
JOBS = 2
"""Projections that run at once."""
STEPS = 1000
"""Of one projection."""
GRID_SIDE = 12
"""Rows or columns of a grid."""
FILM_FRAMES = 240
"""Of one film."""
MAPPED = 4000
"""Images on the map."""
SEED = 2**53 - 1
"""The largest whole number that JavaScript counts to."""
NAME = 80
"""Letters of a name."""
