"""Inpainting: which codes a mask leaves, and how the others are sampled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, HasPrior, Labels, Noise
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal import Image
from anamorph.core.space import Codes, Space
from anamorph.edit.inpaint import inpaint, known_code_masks
from anamorph.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from anamorph.models.two_stage import ChainedPrior, two_stage

TOP = Space("top", (1, 2, 3), 4)
BOTTOM = Space("bottom", (2, 4, 6), 4)
CNN = PixelCNNConfig(width=8, layers=3, first_kernel_size=3, head_channels=8, condition_channels=4)


class Blocks(Encodes):
    """Images of 8x12 pixels, whose codes are the levels of blocks: of 4x4 pixels (top), and twice of 2x2 (bottom)."""

    def __init__(self, *spaces: Space) -> None:
        super().__init__()
        self.signal, self.spaces = Image(1, 8, 12), spaces

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        code = codes[self.spaces[-1].name][:, :1].float()
        return code.repeat_interleave(8 // code.shape[2], 2).repeat_interleave(12 // code.shape[3], 3) / 2 - 1

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        raise NotImplementedError


def model_of(*priors: PixelCNN) -> HasPrior:
    torch.manual_seed(0)
    for prior in priors:
        for parameter in prior.parameters():
            parameter.data += 0.5 * torch.randn(parameter.shape)
    spaces = [space for prior in priors for space in prior.spaces]
    return two_stage(Blocks(*spaces), priors[0] if len(priors) == 1 else ChainedPrior(priors)).eval()


def codes_of(model: HasPrior, seed: int = 1) -> Codes:
    return model.sample_codes(1, Seeded(seed, "image"))


def mask_of(rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


def test_codes_remain_where_no_pixel_of_the_mask_touches_them() -> None:
    masks = known_code_masks(mask_of(slice(3, 5), slice(11, 12)), [TOP, BOTTOM])
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == {"top": (1, 1, 2, 3), "bottom": (1, 2, 4, 6)}
    assert (~masks["top"]).nonzero().tolist() == [[0, 0, 0, 2], [0, 0, 1, 2]]
    assert (~masks["bottom"]).nonzero().tolist() == [[0, m, r, 5] for m in (0, 1) for r in (1, 2)]


def test_a_mask_finer_or_coarser_than_the_grid_is_resized() -> None:
    mask = torch.tensor([[0, 1], [0, 0]])
    finer = known_code_masks(mask, [BOTTOM])["bottom"][0, 0]
    assert finer.tolist() == [[True] * 3 + [False] * 3] * 2 + [[True] * 6] * 2
    same = known_code_masks(mask.float(), [Space("codes", (1, 2, 2), 9)])["codes"]
    assert same.tolist() == [[[[True, False], [True, True]]]]


@pytest.mark.parametrize(
    ("mask", "spaces", "message"),
    [
        (torch.zeros(8, 12), [TOP], "mask is empty: mark what is to be sampled anew"),
        (torch.ones(8, 12), [TOP, BOTTOM], "touches every code: sample whole images instead"),
        (mask_of(slice(3, 5), slice(None)), [TOP], "touches every code"),
        (torch.ones(8, 12), [Space("z", (5,))], r"grids of whole numbers, and this one has z \[5\] real"),
        (torch.ones(8, 12), [TOP, Space("codes", (1, 9), 4)], r"this one has codes \[1, 9\] 0\.\.3"),
    ],
)
def test_masks_and_models_that_cannot_be_inpainted_are_refused(mask: Tensor, spaces: list[Space], message: str) -> None:
    with pytest.raises(UserError, match=message):
        known_code_masks(mask, spaces)


def test_a_mask_that_touches_every_coarse_code_leaves_finer_ones() -> None:
    masks = known_code_masks(mask_of(slice(3, 5), slice(None)), [TOP, BOTTOM])
    assert not masks["top"].any()
    assert masks["bottom"][0, 0].all(1).tolist() == [True, False, False, True]


def test_known_codes_stay_and_the_others_vary() -> None:
    model = model_of(PixelCNN([BOTTOM], [], CNN))
    codes, mask = codes_of(model), mask_of(slice(2, 6), slice(4, 8))
    inpainted = inpaint(model, codes, mask, 20, Seeded(0, "inpaint"))["bottom"]
    known = known_code_masks(mask, model.spaces)["bottom"]
    assert inpainted.shape == (20, *BOTTOM.shape)
    assert torch.equal(inpainted[known.expand_as(inpainted)], codes["bottom"].expand_as(inpainted)[known.expand_as(inpainted)])
    assert bool((inpainted != inpainted[:1]).any(0)[~known[0]].all())  # every marked code differs in some sample
    again = inpaint(model, codes, mask, 20, Seeded(0, "inpaint"))["bottom"]
    assert torch.equal(again, inpainted)
    assert not torch.equal(inpaint(model, codes, mask, 20, Seeded(1, "inpaint"))["bottom"], inpainted)


def test_a_code_is_sampled_from_its_conditional_distribution() -> None:
    prior = PixelCNN([TOP], [], CNN)
    model, n = model_of(prior), 4000
    codes = codes_of(model)
    inpainted = inpaint(model, codes, mask_of(slice(5, 6), slice(5, 6)), n, Seeded(0, "inpaint"))["top"]
    with torch.no_grad():
        expected = prior.logits(codes["top"], {})[0, 0, 1, 1].softmax(0)
    frequencies = torch.bincount(inpainted[:, 0, 1, 1], minlength=4) / n
    torch.testing.assert_close(frequencies, expected, atol=0.03, rtol=0)
    assert float(expected.max()) < 0.95  # so that the comparison means something


def test_settings_restrict_the_samples_and_progress_is_reported() -> None:
    prior = PixelCNN([TOP], [], CNN)
    model = model_of(prior)
    codes, calls = codes_of(model), list[tuple[int, int]]()
    mask, settings = mask_of(slice(0, 1), slice(0, 4)), SamplingSettings(top_k=1)
    inpainted = inpaint(model, codes, mask, 5, Seeded(0, "inpaint"), settings, lambda done, total: calls.append((done, total)))[
        "top"
    ]
    assert torch.equal(inpainted, inpainted[:1].expand_as(inpainted))
    with torch.no_grad():
        assert int(inpainted[0, 0, 0, 0]) == int(prior.logits(codes["top"], {})[0, 0, 0, 0].argmax())
    assert calls[-1] == (6, 6)


def test_a_finer_level_is_inpainted_given_the_inpainted_coarser_one() -> None:
    top, bottom = PixelCNN([TOP], [], CNN), PixelCNN([BOTTOM], [TOP], CNN)
    model, n = model_of(top, bottom), 3
    codes = codes_of(model)
    mask = mask_of(slice(0, 4), slice(0, 4))
    inpainted = inpaint(model, codes, mask, n, Seeded(0, "inpaint"))
    known = known_code_masks(mask, model.spaces)
    for space in model.spaces:
        marked = ~known[space.name].expand(n, *space.shape)
        assert torch.equal(inpainted[space.name][~marked], codes[space.name].expand(n, *space.shape)[~marked])
        assert int(marked.sum()) == n * space.shape[0] * (space.shape[1] // 2) * (space.shape[2] // 3)
    random = Seeded(0, "inpaint")
    random.uniform(n, *TOP.shape)  # those of the coarser level
    uniforms = random.uniform(n, *BOTTOM.shape)
    with torch.no_grad():
        logits = bottom.logits(inpainted["bottom"], {"top": inpainted["top"]})
    first = (logits[:, 0, 0, 0].double().softmax(1).cumsum(1) < uniforms[:, 0, 0, 0, None].double()).sum(1)
    assert torch.equal(inpainted["bottom"][:, 0, 0, 0], first)


def test_images_differ_only_where_the_mask_touches_their_codes() -> None:
    model = model_of(PixelCNN([TOP], [], CNN))
    codes = codes_of(model)
    image = model.decode(codes)
    inpainted = model.decode(inpaint(model, codes, mask_of(slice(6, 8), slice(9, 12)), 10, Seeded(0, "inpaint")))
    changed = (inpainted != image).any(0)[0]
    assert changed[4:, 8:].all()
    assert not changed[:4].any()
    assert not changed[:, :8].any()
