"""Pictures of every panel of the studio, on a desk and on a phone, by day and by night: one sheet for each.

python docs/screenshots.py RUN... --out docs/pictures/studio: each panel shows the first run that has it.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

PANELS = ("wall", "reconstruct", "edit", "mix", "interpolate", "codes", "map", "training", "compare")
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
GROUND = {"light": "#d8d8de", "dark": "#3a3a42"}
"""Of the sheet, by theme."""
SHOWN = {"desktop": 420, "phone": 260}
"""How wide a panel stands on its sheet."""
GAP = 12


@contextmanager
def studio(runs: list[Path]) -> Iterator[str]:
    """The address of a studio that shows some runs."""
    from anamorph.studio.app import create_app
    from anamorph.studio.serve import server_of
    from anamorph.studio.service import Service, find_runs

    service, listening = Service(find_runs(runs)), socket.socket()
    listening.bind(("127.0.0.1", 0))
    server, run = server_of(create_app(service, ""), listening)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    service.close()


def prepare(page: Any, panel: str) -> None:
    """Do in a panel what a visitor would do first."""
    page.wait_for_timeout(2500)
    if panel == "edit":
        for nth, value in enumerate(("2", "-1.5", "1")):
            page.locator("#panel input[type=range]").nth(nth).fill(value)
            page.wait_for_timeout(500)
    if panel == "map":
        page.locator("#panel select").last.select_option(index=1)
    page.wait_for_timeout(4000)


def picture(browser: Any, address: str, panel: str, size: str, theme: str) -> Image.Image | None:
    """A panel of the first run that has it, if one has."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, device_scale_factor=1, has_touch=size == "phone"
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#panel .head")
    shown = page.evaluate(
        "async wanted => { const runs = await (await fetch('/api/runs')).json();"
        " for (const run of runs) { const facts = await (await fetch(`/api/runs/${run.id}`)).json();"
        " if (facts.panels.includes(wanted)) { location.hash = `#${run.id}/${wanted}`; return true } }"
        " return false }",
        panel,
    )
    if not shown:
        context.close()
        return None
    page.wait_for_selector(f"#panel[data-panel={panel}] .head")
    prepare(page, panel)
    found = Image.open(BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return found


def sheet(pictures: list[Image.Image], width: int, columns: int, ground: str) -> Image.Image:
    """Pictures of one size beside and below each other."""
    height = round(pictures[0].height * width / pictures[0].width)
    rows = -(-len(pictures) // columns)
    out = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), ground)
    for i, found in enumerate(pictures):
        place = (GAP + i % columns * (width + GAP), GAP + i // columns * (height + GAP))
        out.paste(found.resize((width, height), Image.Resampling.LANCZOS), place)
    return out


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/studio"))
    parser.add_argument("--panels", nargs="+", choices=PANELS, default=PANELS)
    options = parser.parse_args()
    chromium = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    with studio(options.runs) as address, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for size in SIZES:
            for theme in GROUND:
                tried = [picture(browser, address, panel, size, theme) for panel in options.panels]
                found = [one for one in tried if one is not None]
                columns = 2 if size == "desktop" else 4
                made = sheet(found, SHOWN[size], columns, GROUND[theme])
                made.save(options.out / f"{size}-{theme}.webp", quality=82, method=6)
                print(options.out / f"{size}-{theme}.webp", made.size)
        browser.close()


if __name__ == "__main__":
    main()
