"""The standard networks: shapes and names of the published layouts, by random weights; the published heads of LPIPS."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.features.backbones import VGG16Features
from anamorph.features.inception import InceptionV3, resized_as_tensorflow_1
from anamorph.features.network import FeatureNetwork
from anamorph.features.perceptual import LPIPS, SMALLEST, lpips
from anamorph.interop.published_features import HEADS, PUBLISHED, Published, read_heads, read_published


@pytest.fixture(scope="module")
def inception() -> InceptionV3:
    torch.manual_seed(0)
    return InceptionV3().eval().requires_grad_(False)


def test_inception_has_the_published_tensors(inception: InceptionV3) -> None:
    state = inception.state_dict()
    assert sum(p.numel() for p in inception.parameters()) == 23_850_960  # torchvision's, and 8 classes more
    assert len(state) == 94 * 6 + 2
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
        "Mixed_6e.branch7x7_2.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.bn.bias": (192,),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
    }.items():
        assert tuple(state[name].shape) == shape


def test_inception_sees_images_of_any_size(inception: InceptionV3) -> None:
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    seen = inception(x)
    assert seen.shape == (2, 2048)
    assert bool((seen >= 0).all())
    assert not torch.equal(seen[0], seen[1])
    probabilities = inception.probabilities(x)["imagenet"]
    assert probabilities.shape == (2, 1008)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


def test_images_are_resized_as_tensorflow_1_does() -> None:
    x = torch.arange(4.0).view(1, 1, 1, 4)
    found = resized_as_tensorflow_1(x, 1, 8)[0, 0, 0]
    assert found.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]  # tf.compat.v1.image.resize_bilinear, by hand
    assert resized_as_tensorflow_1(x, 1, 2)[0, 0, 0].tolist() == [0, 2]
    y = torch.randn(2, 3, 7, 5)
    assert torch.equal(resized_as_tensorflow_1(y, 7, 5), y)
    corners = F.interpolate(y, (13, 9), mode="bilinear", align_corners=True)
    padded = resized_as_tensorflow_1(torch.nn.functional.pad(y, (0, 1, 0, 1), mode="replicate"), 16, 12)
    torch.testing.assert_close(padded[:, :, :13, :9], corners)


LPIPS_TAPS = {
    "alexnet": [64, 192, 384, 256, 256],
    "vgg16": [64, 128, 256, 512, 512],
    "squeezenet": [64, 128, 256, 384, 384, 512, 512],
}


@pytest.mark.parametrize("network", LPIPS_TAPS)
def test_lpips_reads_the_maps_that_its_heads_weigh(network: str) -> None:
    seen = LPIPS(network).eval().requires_grad_(False)
    least = SMALLEST[network]
    maps = seen.maps(torch.rand(1, 1, least, least + 3))
    assert [m.shape[1] for m in maps] == LPIPS_TAPS[network] == [h.numel() for h in seen.heads]
    for head in seen.heads:
        head.fill_(0.5)
    a, b = torch.rand(2, 3, least, least), torch.rand(2, 3, least, least)
    assert seen.distance(a, a).tolist() == [0, 0]
    assert bool((seen.distance(a, b) > 0).all())
    torch.testing.assert_close(seen.distance(a, b), seen.distance(b, a))
    assert seen(a).shape == (2, seen.width)
    with pytest.raises(UserError, match=f"at least {least}x{least}"):
        seen.maps(a[..., 1:])


def test_lpips_by_hand() -> None:
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    c, d = torch.randn(2, 6, 2, 2), torch.randn(2, 6, 2, 2)
    weights = [torch.rand(3), torch.rand(6)]
    wanted = [0.0, 0.0]
    for left, right, weight in ((a, b, weights[0]), (c, d, weights[1])):
        for i in range(2):
            places = left.shape[2] * left.shape[3]
            for y in range(left.shape[2]):
                for x in range(left.shape[3]):
                    p, q = left[i, :, y, x], right[i, :, y, x]
                    wanted[i] += float((weight * (p / p.norm() - q / q.norm()) ** 2).sum()) / places
    assert lpips([a, c], [b, d], weights).tolist() == pytest.approx(wanted, rel=1e-5)
    assert lpips([a, c], [a, c], weights).tolist() == [0, 0]


def test_maps_of_other_taps_are_refused() -> None:
    a = torch.randn(2, 3, 4, 5)
    with pytest.raises(UserError, match="taps"):
        lpips([a], [a], [])
    with pytest.raises(UserError, match="not of one network"):
        lpips([a], [a], [torch.ones(4)])


@pytest.mark.parametrize("network", LPIPS_TAPS)
def test_published_heads_are_opened(network: str) -> None:
    folder = Path(os.environ.get("ANAMORPH_DATA", "")) / "lpips_weights"
    if not os.environ.get("ANAMORPH_DATA") or not folder.is_dir():
        pytest.skip("the published heads are not at hand: set ANAMORPH_DATA to the folder of data sets")
    seen = LPIPS(network)
    read_heads(seen, folder)
    assert all(float(head.min()) >= 0 < float(head.max()) for head in seen.heads)  # they were trained not to be negative


def published(folder: Path, network: FeatureNetwork, backbone: str, more: dict[str, Tensor]) -> Published:
    """A file of random weights in a published layout."""
    known = PUBLISHED[backbone]
    weights = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save({k: v for k, v in weights.items() if not k.startswith("heads.")} | more, folder / known.file)
    digest = hashlib.sha256((folder / known.file).read_bytes()).hexdigest()
    return Published(known.file, digest[:8], known.url, known.ignored)


def test_a_published_layout_is_opened_and_anything_else_refused(tmp_path: Path) -> None:
    file = published(tmp_path, LPIPS("squeezenet"), "squeezenet", {"classifier.1.weight": torch.zeros(2)})
    files = {**PUBLISHED, "squeezenet": file}
    with pytest.raises(UserError, match="lpips_v0.1_squeeze.pth is not at hand: fetch it from https"):
        read_published("lpips-squeezenet", tmp_path, files)
    with pytest.raises(UserError, match="not the file that was published: its SHA-256 begins .*, wanted b8a52dc0"):
        read_published("lpips-squeezenet", tmp_path)
    with pytest.raises(UserError, match="did you mean 'lpips-squeezenet'"):
        read_published("lpips-squeeze", tmp_path)
    with pytest.raises(UserError, match="inception.* is not at hand"):
        read_published("inception-v3-fid", tmp_path)
    (tmp_path / HEADS["squeezenet"].file).write_bytes(b"")
    with pytest.raises(UserError, match="not the file"):
        read_published("lpips-squeezenet", tmp_path, files)
    network = LPIPS("squeezenet")
    state = {k: v for k, v in network.state_dict().items() if not k.startswith(("heads.", "features.12"))}
    torch.save(state, tmp_path / file.file)
    digest = hashlib.sha256((tmp_path / file.file).read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"features\.12"):
        read_published("lpips-squeezenet", tmp_path, {"squeezenet": Published(file.file, digest, file.url, file.ignored)})


def test_inception_returns_from_its_file(tmp_path: Path, inception: InceptionV3) -> None:
    counts = {k: v for k, v in inception.state_dict().items() if k.endswith("num_batches_tracked")}
    assert counts
    torch.save(
        {k: v for k, v in inception.state_dict().items() if k not in counts}, tmp_path / PUBLISHED["inception-v3-fid"].file
    )
    known = PUBLISHED["inception-v3-fid"]
    digest = hashlib.sha256((tmp_path / known.file).read_bytes()).hexdigest()
    again = read_published("inception-v3-fid", tmp_path, {"inception-v3-fid": Published(known.file, digest, known.url)})
    assert again.fingerprint == inception.fingerprint
    assert again.name == "inception-v3-fid"


def test_vgg16_has_the_published_layout() -> None:
    with torch.device("meta"):
        network = VGG16Features()
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 4096)
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 138_357_544  # as torchvision tells
    assert tuple(state["features.28.weight"].shape) == (512, 512, 3, 3)
    assert tuple(state["classifier.6.weight"].shape) == (1000, 4096)
