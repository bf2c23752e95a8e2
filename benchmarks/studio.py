"""Time the studio in a real browser: the first picture, a drag, a wall of tiles, and all that beside another client."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from anamorph.data.open import ReadOptions
from anamorph.presets import preset
from anamorph.runs import new_settings, open_training
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder

PORT = 7873
ADDRESS = f"http://127.0.0.1:{PORT}/"
LISTEN = """window.frames_ = [];
document.addEventListener('studio:frame', (event) => window.frames_.push({ at: performance.now(), ...event.detail }));"""


def untrained(folder: Path) -> None:
    """Write an untrained run of the preset for 64 px at its full size, which takes as long as a trained one."""
    choice = ComputeRequest(device="cpu", precision="float32", threads=1, compiled=False)
    wanted = ReadOptions((64, 64))
    settings = new_settings(
        "stylealae", "shapes", 1000, config=preset("stylealae", 64).config, read_options=wanted, compute=choice
    )
    run = RunFolder(folder)
    settings.write(run)
    with run.locked():
        training = open_training(run)
        run.save(training.run, {}, keep=True)


@contextmanager
def studio(run: Path, core: int | None) -> Iterator[int]:
    """A studio in a process of its own, on one core; yields its process."""

    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    words = [sys.executable, "-m", "anamorph", "studio", str(run), "--port", str(PORT), "--no-browser", "--threads", "1"]
    process = subprocess.Popen(words, preexec_fn=pin, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                httpx.get(f"{ADDRESS}api/runs")
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        httpx.get(f"{ADDRESS}api/runs/{run.name}", timeout=120)
        httpx.post(f"{ADDRESS}api/runs/{run.name}/draw", json={"n": 1}, timeout=120)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def opened(page: Page, run: str) -> float:
    """Return the seconds from opening the page to its first picture."""
    page.goto("about:blank")
    page.goto(f"{ADDRESS}#{run}/wall")
    page.wait_for_function("() => window.frames_.length > 0")
    return float(page.evaluate("window.frames_[0].at")) / 1000


def dragged(page: Page, run: str, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """Return the frames that arrive while a slider of the edit panel is dragged to and fro."""
    page.goto("about:blank")
    page.goto(f"{ADDRESS}#{run}/edit")
    page.wait_for_selector(".sliders input")
    page.wait_for_timeout(1500)
    box = page.locator(".sliders input").first.bounding_box()
    assert box is not None
    y, middle, half = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2, box["width"] / 2 - 12
    page.mouse.move(middle, y)
    page.mouse.down()
    page.evaluate("() => { window.frames_.length = 0; }")
    thread = threading.Thread(target=meanwhile)
    thread.start()
    start, moves = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        page.mouse.move(middle + half * (2 * abs((now / 2) % 2 - 1) - 1), y)
        moves += 1
    page.mouse.up()
    thread.join()
    frames: list[dict[str, Any]] = page.evaluate("window.frames_")
    print(f"   {moves} moves of the pointer in {seconds:.0f} s", flush=True)
    return frames


def print_drag(frames: list[dict[str, Any]], seconds: float) -> None:
    """Print the rate and latency of frames by channel. The tray's copy of the image comes on a channel of its own."""
    for channel in sorted({frame["channel"] for frame in frames}):
        times = [frame["ms"] for frame in frames if frame["channel"] == channel]
        if len(times) > 20:
            late, rate = quantiles(times, n=20)[-1], len(times) / seconds
            print(f"   channel {channel}: {rate:.1f} frames/s, median {median(times):.0f} ms, 95 % within {late:.0f} ms")


def tiles(page: Page, run: str, rounds: int) -> list[float]:
    """Return the seconds that sixteen tiles of the wall take, from a new truncation until they are drawn."""
    page.goto("about:blank")
    page.goto(f"{ADDRESS}#{run}/wall")
    page.wait_for_function("() => window.frames_.length > 2")
    page.wait_for_timeout(2000)
    times = []
    for i in range(rounds):
        page.evaluate("() => { window.frames_.length = 0; }")
        page.locator(".controls input[type=range]").first.fill(str(0.5 + 0.02 * i))
        page.wait_for_function("() => window.frames_.some((frame) => frame.count === 16)")
        times.append(float(page.evaluate("window.frames_.find((frame) => frame.count === 16).ms")) / 1000)
        page.wait_for_timeout(1200)
    return times


def others(run: str, seconds: float, times: list[float]) -> None:
    """Be another client, which requests a picture again and again."""
    with httpx.Client(base_url=ADDRESS, timeout=60) as client:
        start, seed = time.monotonic(), 0
        while time.monotonic() - start < seconds:
            seed += 1
            sent = time.monotonic()
            client.post(f"api/runs/{run}/decode", json={"points": [{"kind": "seed", "seed": seed}]}).raise_for_status()
            times.append(time.monotonic() - sent)
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of dragging")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of dragging after which memory is measured again")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    browser_path = os.environ.get("ANAMORPH_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        run = Path(folder) / "stylealae64"
        untrained(run)
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))  # the browser's; the studio has the first one for itself
        with studio(run, cores[0]) as pid:
            browser = p.chromium.launch(executable_path=browser_path, args=arguments)
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.set_default_timeout(60_000)
            page.add_init_script(LISTEN)
            opened(page, run.name)
            times = [opened(page, run.name) for _ in range(5)]
            print(f"first picture: median {median(times):.2f} s of {len(times)}, {min(times):.2f} to {max(times):.2f}")
            times = tiles(page, run.name, 7)
            print(f"sixteen tiles: median {median(times):.2f} s of {len(times)}, {min(times):.2f} to {max(times):.2f}")
            print("a slider is dragged:")
            print_drag(dragged(page, run.name, options.seconds), options.seconds)
            answers: list[float] = []
            print("again, while another client asks for pictures:")
            print_drag(
                dragged(page, run.name, options.seconds, lambda: others(run.name, options.seconds, answers)), options.seconds
            )
            middle, longest = 1000 * median(answers), 1000 * max(answers)
            print(f"   the other: {len(answers)} answers, median {middle:.0f} ms, longest {longest:.0f} ms")
            if options.soak:
                before = resident_mb(pid)
                dragged(page, run.name, options.soak)
                print(f"memory: {before:.0f} MB, and {resident_mb(pid):.0f} MB after {options.soak:.0f} s of dragging")
            browser.close()


if __name__ == "__main__":
    main()
