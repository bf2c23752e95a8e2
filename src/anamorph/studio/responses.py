"""What the studio's description says of its answers, beside what their types say."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

__all__ = ["ERRORS", "FILE_SENT", "Problem", "answering"]


class Problem(BaseModel):
    """Why a request was not answered with what it asked for, and what to do."""

    error: str


_STATUSES = {
    403: "It comes from elsewhere than the studio's own page, or lacks its token.",
    404: "There is nothing of that name.",
    405: "This is not how it is asked for.",
    413: "It is too large.",
    422: "It cannot be answered, or not as it is.",
    500: "The model has failed; the studio goes on.",
    503: "The model was put aside meanwhile: ask again.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": said} for status, said in _STATUSES.items()
}
"""Of every route."""
_BYTES = {"schema": {"type": "string", "format": "binary"}}
FILE_SENT: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": _BYTES}}}
"""Of routes that take a file as their body."""


def answering(*types: str) -> dict[str, Any]:
    """Of a route that answers with bytes of such types."""
    content = {kind.partition(";")[0]: _BYTES for kind in types}
    return {"response_class": Response, "responses": {200: {"description": "As asked for.", "content": content}}}
