"""Limits of what clients can request. Everything that they send is checked against these."""

from __future__ import annotations

__all__ = [
    "BODY_BYTES",
    "CHANNELS",
    "CODES_BYTES",
    "DEPTH",
    "FILM_FRAMES",
    "GRID_SIDE",
    "JOBS",
    "MAP_IMAGES",
    "MESSAGE_BYTES",
    "MODELS",
    "NAME",
    "NODES",
    "PICTURES",
    "QUEUED_REQUESTS",
    "SEED",
    "STEPS",
    "UPLOADED_BYTES",
    "UPLOAD_BYTES",
    "UPLOAD_MEGAPIXELS",
    "UPLOAD_SECONDS",
    "VALUES",
]

PICTURES = 64
"""Pictures of one request."""
NODES = 4000
"""Points of one request, those within others included."""
DEPTH = 40
"""Levels of points within a point."""
MESSAGE_BYTES = 256 * 1024
"""Bytes of one WebSocket message from a client."""
BODY_BYTES = 1 << 20
"""Bytes of a JSON request."""
UPLOAD_BYTES = 16 << 20
"""Bytes of one uploaded file."""
UPLOAD_MEGAPIXELS = 40
"""Megapixels of an uploaded image, before it is resized for the model."""
UPLOAD_SECONDS = 600
"""Seconds of an uploaded sound; a model uses its beginning."""
UPLOADED_BYTES = 256 << 20
"""Bytes of all uploaded files that are stored; the least recently used are removed first."""
CODES_BYTES = 256 << 20
"""Bytes of all codes that were computed or uploaded and are stored; the least recently used are removed first."""
VALUES = 1 << 27
"""Pixel values in the pictures of one request: 42 pictures of 1024x1024."""
CHANNELS = 16
"""Channels of one WebSocket connection."""
QUEUED_REQUESTS = 256
"""Requests that wait for one model."""
MODELS = 4
"""Models in memory; the least recently used is removed first."""
JOBS = 2
"""Optimisations that run at once."""
STEPS = 1000
"""Steps of one optimisation."""
GRID_SIDE = 12
"""Rows or columns of a grid of points."""
FILM_FRAMES = 240
"""Frames of one film."""
MAP_IMAGES = 4000
"""Images on a map."""
SEED = 2**53 - 1
"""The largest seed: the largest integer that JavaScript represents exactly."""
NAME = 80
"""Characters of a name."""
