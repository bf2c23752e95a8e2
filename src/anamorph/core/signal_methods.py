"""What people do with a model first: signals in, signals out, without a word about codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.inputs import as_signals
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal_batch import SignalBatch

if TYPE_CHECKING:
    from anamorph.core.model import LatentModel

__all__ = ["ClassChoice", "SignalMethods"]

ClassChoice = Mapping[str, int | Sequence[int] | Tensor]
"""By the label's name, one class for all examples or one for each."""


class SignalMethods(nn.Module):
    """Methods that every latent model has; those that it cannot do raise `UnsupportedOperation` and say what is missing."""

    @torch.no_grad()
    def sample(
        self,
        n: int = 16,
        seed: int = 0,
        *,
        labels: ClassChoice | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> SignalBatch:
        """Sample new signals; the same seed gives the same ones as `anamorph sample --seed`.

        Args:
            n: number of signals.
            seed: of the random codes.
            labels: classes, for a conditional model; None: sampled, too.
            temperature: of a learned prior; below 1, likely codes are sampled more often.
            top_k: of a learned prior; sample only from the k likeliest codes.
            top_p: of a learned prior; sample only from the likeliest codes that together have this probability.

        Returns:
            n signals [n, *signal.shape] in [-1, 1], not clamped.

        Raises:
            UnsupportedOperation: if the model has no distribution over its codes; a prior can learn one.
        """
        from anamorph.core.model import HasPrior, Samples, decode_in_chunks, device_of, require

        if n < 1:
            raise UserError(f"n must be at least 1, got {n}")
        model = require(cast("LatentModel", self), Samples, "sampling")
        device = device_of(model)
        random, chosen = Seeded(seed, "samples", device=device), _classes(model, labels, n, device)
        settings = SamplingSettings(temperature, top_k, top_p)
        if settings == SamplingSettings():
            codes = model.sample_codes(n, random, chosen)
        else:
            codes = require(model, HasPrior, "a temperature, top-k or top-p").sample_codes(n, random, chosen, settings)
        return SignalBatch.of(decode_in_chunks(model, codes), model.signal)

    @torch.no_grad()
    def reconstruct(self, x: Any, labels: ClassChoice | None = None) -> SignalBatch:
        """Encode signals and decode them again.

        Args:
            x: one or several signals, as `encode` takes them: tensors, arrays, bytes or PIL images of the model's size.
            labels: their classes, for a conditional model.

        Returns:
            As many signals [B, *signal.shape] in [-1, 1], not clamped.

        Raises:
            UnsupportedOperation: if the model has no encoder.
            UserError: for signals of another size or range.
        """
        from anamorph.core.model import decode_in_chunks

        model = cast("LatentModel", self)
        return SignalBatch.of(decode_in_chunks(model, _codes(model, x, labels)), model.signal)

    @torch.no_grad()
    def interpolate(self, a: Any, b: Any, steps: int = 9, labels: ClassChoice | None = None) -> SignalBatch:
        """Decode the points on the line between the codes of two signals.

        Args:
            a: the signal at the beginning.
            b: the signal at the end.
            steps: number of points, both ends included; at least 2.
            labels: the class of all points, for a conditional model.

        Returns:
            Signals [steps, *signal.shape] in [-1, 1], from the reconstruction of a to that of b.

        Raises:
            UnsupportedOperation: if the model has no encoder.
            UserError: if a or b are several signals, or all codes are whole numbers, between which there is nothing.
        """
        from anamorph.core.interpolation import lerp_codes
        from anamorph.core.model import decode_in_chunks, device_of

        model = cast("LatentModel", self)
        if steps < 2:
            raise UserError(f"an interpolation has at least 2 steps, got {steps}")
        ends = [_codes(model, x, labels) for x in (a, b)]
        if any(len(value) != 1 for codes in ends for value in codes.values()):
            raise UserError(f"an interpolation goes from one {model.signal.noun} to another: give one for a and one for b")
        first, last = ({name: value[0] for name, value in codes.items()} for codes in ends)
        between = lerp_codes(first, last, torch.linspace(0, 1, steps, device=device_of(model)))
        return SignalBatch.of(decode_in_chunks(model, between), model.signal)


def _codes(model: LatentModel, x: Any, labels: ClassChoice | None) -> dict[str, Tensor]:
    from anamorph.core.labels import encode_batch
    from anamorph.core.model import Encodes, device_of, require
    from anamorph.core.signal import Batch

    encoder = require(model, Encodes, "reconstruction")
    signals = as_signals(x, model.signal, device_of(model))
    return encode_batch(encoder, Batch(signals, _classes(model, labels, len(signals), signals.device)), "the call")


def _classes(model: LatentModel, labels: ClassChoice | None, n: int, device: torch.device) -> dict[str, Tensor]:
    """Return the classes of n examples [n], by label.

    Raises:
        UserError: for a label that the model does not have, a class that does not exist, or another number of them.
    """
    from anamorph.core.labels import label_sizes

    known = {**model.classes, **label_sizes(model)}
    chosen = {}
    for name, value in (labels or {}).items():
        if name not in known:
            has = ", ".join(known) or "none"
            raise UserError(f"the model has no label {name!r}; its labels: {has}")
        one = torch.as_tensor(value, dtype=torch.long, device=device)
        if one.dim() > 1 or (one.dim() == 1 and len(one) != n):
            raise UserError(f"{name!r} is one class, or one for each of {n} examples; got shape {list(one.shape)}")
        if one.numel() and not 0 <= int(one.min()) <= int(one.max()) < known[name]:
            raise UserError(f"classes of {name!r} are 0 to {known[name] - 1}, got {one.tolist()}")
        chosen[name] = one.expand(n) if one.dim() == 0 else one
    return chosen
