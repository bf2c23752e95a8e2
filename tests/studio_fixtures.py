"""Fixtures of the studio's tests: runs of a few training steps, a studio that shows them, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from anamorph.cli.main import main
from anamorph.core.files import read_tensors, write_tensors
from anamorph.studio.service import Service, find_runs
from anamorph.training.folder import RunFolder
from studios import PATIENCE, studio_of

PLAIN = ["--images", "16", "--batch", "16", "--threads", "1", "--compile", "off", "--precision", "float32"]
STYLED = ["--model.w-dim", "8", "--model.channel-base", "64", "--model.channel-max", "8", "--model.mapping-layers", "2"]
CODED = [
    "--model.width",
    "8",
    "--model.residual-blocks",
    "1",
    "--model.residual-channels",
    "4",
    "--model.num-embeddings",
    "12",
    "--model.embedding-dim",
    "3",
]
PRIOR = ["--model.width", "8", "--model.layers", "2"]


RECORD_TOASTS = """window.toasts = [];
document.addEventListener('DOMContentLoaded', () => new MutationObserver((records) => {
  for (const record of records) for (const node of record.addedNodes) window.toasts.push(node.textContent);
}).observe(document.getElementById('toasts'), { childList: true }));"""


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model with layers, an encoder and noise; one without layers; one of discrete codes; and a prior over these."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    before = os.environ.get("ANAMORPH_CACHE")
    os.environ["ANAMORPH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    try:
        for name, model, more in (
            ("styled", "stylealae", STYLED),
            ("plain", "vae", ["--model.z-dim", "6"]),
            ("coded", "vqvae", CODED),
            ("drawn", "pixelcnn", [*PRIOR, "--codes-of", str(root / "coded")]),
        ):
            size = [] if model == "pixelcnn" else ["--size", "16"]
            assert main(["train", model, "shapes", *size, *PLAIN, *more, "--out", str(root / name)]) == 0
        for name in ("styled", "plain"):
            _perturb(root / name)
    finally:
        if before is not None:
            os.environ["ANAMORPH_CACHE"] = before
    return root


def _perturb(run: Path) -> None:
    """Add noise to the weights of a run, since images of a model that has learned little all look the same."""
    path = RunFolder(run).checkpoint_files()[0]
    tensors, facts = read_tensors(path)
    generator = torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        if name.startswith("ema/") and value.is_floating_point() and value.dim():
            value += 0.3 * torch.randn(value.shape, generator=generator)
    write_tensors(path, tensors, facts)


@pytest.fixture(scope="module")
def service(runs: Path) -> Iterator[Service]:
    service = Service(find_runs([runs]))
    yield service
    service.close()


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    """Run a studio as it runs for users; yield its address."""
    with studio_of(service) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        yield client


def chromium() -> str | None:
    """Return the path of a browser, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("ANAMORPH_CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start headless Chromium; skip the test, naming the remedy, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to test the page")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium to test the page in: apt-get install chromium, or set ANAMORPH_CHROMIUM to one")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a panel of a run in a window of its own.

    An error in the page's console, or a request to another address, fails the test. `window.toasts` has all messages that the
    page has shown.
    """
    contexts, problems = [], []

    def open_page(run: str, panel: str, width: int = 1280, height: int = 900, expect: tuple[str, ...] = (), **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **more)
        contexts.append(context)
        context.add_init_script(RECORD_TOASTS)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda m: problems.append(m.text) if m.type == "error" and not any(e in m.text for e in expect) else None
        )
        page.on(
            "request",
            lambda r: None if r.url.startswith((address, "blob:", "data:")) else problems.append(f"asked for {r.url}"),
        )
        page.goto(f"{address}#{run}/{panel}")
        page.wait_for_selector(f"#panel[data-panel={panel}] .head")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems
