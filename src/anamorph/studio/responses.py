"""Responses in the OpenAPI description: errors, and bodies that are files."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

__all__ = ["ERRORS", "FILE_BODY", "Problem", "binary_response"]


class Problem(BaseModel):
    """An error: what is wrong with a request, and what to do."""

    error: str


_STATUSES = {
    403: "The request does not come from the studio's own page, or lacks its token.",
    404: "There is no route of that name.",
    405: "The route does not take this method.",
    413: "The request is too large.",
    422: "The request is invalid, or the model cannot do it.",
    500: "The model has failed; the studio keeps running.",
    503: "The model was closed meanwhile: send the request again.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text} for status, text in _STATUSES.items()
}
"""Error responses of every route, by status."""
_BYTES = {"schema": {"type": "string", "format": "binary"}}
FILE_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": _BYTES}}}
"""Description of routes whose request body is a file."""


def binary_response(*types: str) -> dict[str, Any]:
    """Return the description of a route that returns bytes of these media types."""
    content = {kind.partition(";")[0]: _BYTES for kind in types}
    return {"response_class": Response, "responses": {200: {"description": "The file.", "content": content}}}
