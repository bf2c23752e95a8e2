"""Batches of images or sounds that a notebook shows as a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anamorph.core.signal import Image, Signal

__all__ = ["SignalBatch", "set_renderers"]

Renderer = Callable[[Tensor, Signal], Any]
_renderers: dict[str, Renderer] = {}


def set_renderers(png: Renderer, html: Renderer) -> None:
    """Choose how batches [B, *signal.shape] are drawn; `anamorph.figures.display` does so when it is imported.

    Args:
        png: returns a picture's bytes.
        html: returns a text, or None where the picture says it all.
    """
    _renderers.update(png=png, html=html)


class SignalBatch(Tensor):
    """A tensor [B, *signal.shape] in [-1, 1] that Jupyter shows as a picture.

    Rows and slices of the batch are such batches, too; whatever else is computed from it is a plain tensor.
    """

    signal: Signal
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def of(x: Tensor, signal: Signal) -> SignalBatch:
        """Return the same numbers as a batch of a kind of signal."""
        batch = x.detach().as_subclass(SignalBatch)
        batch.signal = signal
        return batch

    def __getitem__(self, index: Any) -> Tensor:
        x = self.as_subclass(Tensor)[index]
        return SignalBatch.of(x, self.signal) if self._fits(x) else x

    def __repr__(self) -> str:  # type: ignore[override]
        if not self._fits(self):
            return repr(self.as_subclass(Tensor))
        one = self.dim() == len(self.signal.shape)
        count = f"one {self.signal.noun}" if one else f"{len(self)} {self.signal.noun}{'s' * (len(self) != 1)}"
        return f"SignalBatch({count} of {self.signal}; dtype={self.dtype}, device={self.device})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return SignalBatch.of, (self.as_subclass(Tensor), self.signal)

    def _fits(self, x: Tensor) -> bool:
        return tuple(x.shape[-len(self.signal.shape) :]) == self.signal.shape and x.dim() - len(self.signal.shape) in (0, 1)

    def _render(self, kind: str) -> Any:
        if kind not in _renderers or not self._fits(self) or not self.numel():
            return None
        return _renderers[kind](self.as_subclass(Tensor).reshape(-1, *self.signal.shape).float().cpu(), self.signal)

    def _repr_png_(self) -> bytes | None:
        picture: bytes | None = self._render("png")
        return picture

    def _repr_html_(self) -> str | None:
        text: str | None = self._render("html")
        return text

    def to_pil(self) -> Any:
        """Return the images as a list of PIL images, clipped to what can be shown.

        Raises:
            TypeError: for sounds.
        """
        from PIL import Image as Pillow

        if not isinstance(self.signal, Image):
            raise TypeError("sounds are no pictures: write them with anamorph.figures.wav.write_wav")
        x = self.as_subclass(Tensor).reshape(-1, *self.signal.shape)
        array = ((x.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
        return [Pillow.fromarray(a[..., 0] if a.shape[-1] == 1 else a) for a in array]
