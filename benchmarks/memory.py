"""Anonymous memory of training on a folder of 100,000 images, beside that of training the same model on 1,000 of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

SIDE = 64
LARGE, SMALL = 100_000, 1_000
TRAINED = 12_800
"""Images that each training sees."""


def fill(folder: Path, count: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        array = np.repeat(np.repeat(random.integers(0, 256, (8, 8, 3)).astype(np.uint8), 8, 0), 8, 1)
        Pillow.fromarray(array).save(folder / f"{i:06d}.png", compress_level=1)


def anonymous(process: int) -> float:
    """Return the megabytes of a process's memory that no file backs."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def peak(folder: Path, scratch: Path) -> tuple[float, float]:
    """Return the peak of anonymous memory of a whole training, in MB, and its seconds."""
    command = [sys.executable, "-m", "anamorph", "train", "alae", str(folder), "--images", str(TRAINED)]
    command += ["--out", str(scratch / f"run-{folder.name}"), "--threads", "1", "--precision", "float32", "--compile", "off"]
    environment = os.environ | {"ANAMORPH_CACHE": str(scratch / "cache")}
    start, most = time.monotonic(), 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"training on {folder} failed")
    return most, time.monotonic() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        used = {}
        for count in (SMALL, LARGE):
            fill(scratch / str(count), count)
            used[count], seconds = peak(scratch / str(count), scratch)
            print(
                f"{count:>7,} images of {SIDE}x{SIDE}: peak of anonymous memory {used[count]:,.0f} MB, {seconds:.0f} s",
                flush=True,
            )
        print(f"the larger folder takes {used[LARGE] - used[SMALL]:,.0f} MB more")


if __name__ == "__main__":
    main()
