from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Batch, Image
from anamorph.core.space import Space, check_codes, read_codes, write_codes

SPACES = (
    Space("w", (4, 7), layered=True),
    Space("ids", (1, 2, 3), num_codes=5),
    Space("noise", (2,), optional=True, role="noise"),
)


def codes(n: int = 3) -> dict[str, torch.Tensor]:
    return {"w": torch.randn(n, 4, 7), "ids": torch.randint(0, 5, (n, 1, 2, 3))}


def test_codes_that_fit_are_counted() -> None:
    assert check_codes(codes(3), SPACES) == 3
    assert check_codes({**codes(3), "noise": torch.zeros(3, 2)}, SPACES) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": torch.zeros(3, 4, 8)}, r"\[3, 4, 8\], wanted \[B, 4, 7\]"),
        ({"ids": torch.full((3, 1, 2, 3), 5)}, "whole numbers 0..4"),
        ({"ids": torch.zeros(3, 1, 2, 3)}, "whole numbers"),
        ({"w": torch.zeros(2, 4, 7)}, "unequal batches"),
        ({"noize": torch.zeros(3, 2)}, "did you mean 'noise'"),
    ],
)
def test_codes_that_do_not_fit_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_codes({**codes(3), **change}, SPACES)


def test_a_missing_space_is_named() -> None:
    with pytest.raises(UserError, match="lack the space ids"):
        check_codes({"w": torch.zeros(1, 4, 7)}, SPACES)


def test_codes_return_from_a_file_with_their_spaces(tmp_path: Path) -> None:
    path, mine = tmp_path / "codes.safetensors", codes()
    write_codes(path, mine, SPACES, {"model": "abc"})
    back, spaces, facts = read_codes(path)
    assert all(torch.equal(back[name], mine[name]) for name in mine)
    assert spaces == SPACES[:2]
    assert facts == {"model": "abc"}


def test_a_file_that_is_no_codes_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "plain.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "plain.safetensors").read_bytes()[:-3])
    with pytest.raises(UserError, match="no spaces"):
        read_codes(tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="damaged"):
        read_codes(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="no such file"):
        read_codes(tmp_path / "none.safetensors")


def test_codes_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_codes(tmp_path / "nan.safetensors", {"w": torch.full((1, 4, 7), float("nan"))}, SPACES[:1])
    with pytest.raises(UserError, match="not finite"):
        read_codes(tmp_path / "nan.safetensors")


def test_images_are_halved_and_refuse_odd_halves() -> None:
    assert Image(3, 64, 32).at(2) == Image(3, 16, 8)
    assert str(Image(1, 28, 28)) == "28x28 with 1 channel"
    assert Audio(1, 8000, 8000).shape == (1, 8000)
    with pytest.raises(UserError, match="divisible by 8"):
        Image(1, 28, 28).at(3)
    with pytest.raises(UserError, match="1 to 4 channels"):
        Image(5, 8, 8)


def test_parts_of_a_batch_are_strided() -> None:
    batch = Batch(torch.arange(6), {"class": torch.arange(6) * 10})
    part = batch.micro_batch(1, 3)
    assert part.signals.tolist() == [1, 4]
    assert part.labels["class"].tolist() == [10, 40]
    assert len(Batch({"w": torch.zeros(5, 2)}).micro_batch(0, 2)) == 3
    with pytest.raises(UserError, match="got codes of w"):
        _ = Batch({"w": torch.zeros(5, 2)}).signals
