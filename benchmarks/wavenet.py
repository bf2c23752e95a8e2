"""Time sampling a second of sound from a WaveNet: sample by sample against naively, and 16 sounds at once against one.

Times are those of one thread's processor, so that what else runs on the machine counts less.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal import Audio
from anamorph.models.autoregressive.wavenet import WaveNet, WaveNetConfig
from anamorph.models.two_stage import MuLaw
from anamorph.nn.incremental import sample_from_logits
from anamorph.nn.wavenet_layers import WaveNetSizes
from turns import median_of, ratios

RATE = 8000
NET = WaveNetSizes(layers=30, dilation_cycle=10, residual_channels=64, gate_channels=64, skip_channels=128, head_channels=128)


def make_net() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(MuLaw(Audio(1, RATE, RATE)).spaces, [], WaveNetConfig(network=NET)).eval()


def timed_sampling(net: WaveNet, n: int) -> tuple[float, torch.Tensor]:
    """Return the seconds that sampling n sounds of a second takes, and their codes."""
    start = time.thread_time()
    drawn = net.sample(n, Seeded(0, "draw"))["samples"]
    return time.thread_time() - start, drawn


@torch.no_grad()
def naively(net: WaveNet, drawn: torch.Tensor, prefixes: int) -> float:
    """Return the seconds that the same sound takes when the net is run over the whole prefix for each sample.

    They are a mean over prefixes spread evenly from the first sample to the last, times the number of samples.
    """
    chances = Seeded(0, "draw").uniform(*drawn.shape)
    total = 0.0
    for i in range(prefixes):
        t = round((i + 0.5) / prefixes * RATE)
        ids = drawn[:, :, : t + 1].clone()
        ids[:, :, t] = 0  # not sampled yet
        start = time.thread_time()
        sampled = sample_from_logits(net.net.logits(net.net(ids))[:, 0, t], chances[:, 0, t], SamplingSettings())
        total += time.thread_time() - start
        assert torch.equal(sampled, drawn[:, 0, t])  # the same sample
    return total / prefixes * RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefixes", type=int, default=10, help="prefixes of the sound that are run naively")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = make_net()
    timed_sampling(net, 1)
    one, sixteen, naive = [], [], []
    for _ in range(options.rounds):
        seconds, drawn = timed_sampling(net, 1)
        one.append(RATE / seconds)
        sixteen.append(16 * RATE / timed_sampling(net, 16)[0])
        naive.append(RATE / naively(net, drawn, options.prefixes))
    print(
        f"{NET.layers} layers, {NET.residual_channels} residual and {NET.skip_channels} skip channels, {RATE:,} samples, "
        f"{options.threads} thread(s)"
    )
    print(f"one sound: {median_of(one)} samples/s sample by sample ({RATE / median(one):.2f} s), {median_of(naive, 1)} naively")
    print(f"  ({options.prefixes} prefixes of {RATE:,} run): {ratios(one, naive)} times as fast")
    print(f"16 at once: {median_of(sixteen)} samples/s, {ratios(sixteen, one)} times as many as one at a time", flush=True)


if __name__ == "__main__":
    main()
