"""Points as Python code that makes them again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from anamorph.core.labels import label_sizes
from anamorph.core.model import HasPrior
from anamorph.core.signal import Image
from anamorph.studio.bench import Bench
from anamorph.studio.points import (
    Between,
    DecodeOptions,
    FromCodes,
    FromData,
    FromFile,
    FromSeed,
    Mean,
    Mixed,
    Moved,
    Painted,
    Point,
    Redrawn,
    Relabelled,
    Truncated,
)

__all__ = ["python_of"]

IMPORTS = {
    "Path": "from pathlib import Path",
    "SamplingSettings": "from anamorph.core.prior import SamplingSettings",
    "lerp_towards": "from anamorph.edit.mix import lerp_towards",
    "code_space": "from anamorph.core.model import code_space",
    "data": (
        "from anamorph.run_data import preview_data\nfrom anamorph.settings import settings_of\n"
        "from anamorph.training.folder import RunFolder"
    ),
    "encode_batch": "from anamorph.core.labels import encode_batch",
    "inpaint": "from anamorph.edit.inpaint import inpaint",
    "level_of": "from anamorph.core.model import level_of",
    "lerp_codes": "from anamorph.edit.interpolate import lerp_codes",
    "mix": "from anamorph.edit.mix import mix",
    "move": "from anamorph.edit.directions import move",
    "read_codes": "from anamorph.core.space import read_codes",
    "read_sounds": "from anamorph.data.single_files import read_sounds",
    "show_all": "from anamorph.figures.show import show_all",
    "with_labels": "from anamorph.core.labels import with_labels",
    "read_images": "from anamorph.data.single_files import read_images",
    "torch": "import torch",
    "truncate": "from anamorph.edit.truncate import truncate",
    "DirectionSets": "from anamorph.studio.direction_sets import DirectionSets",
    "PerExampleRandom": "from anamorph.studio.per_example_random import PerExampleRandom",
}


class _Lines:
    """Statements that each assign a variable, and the names that they import. The same point is written once."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.model = bench, bench.model
        self.needs: set[str] = set()
        self.lines: list[str] = []
        self.names: dict[Point, str] = {}
        self.loaded: dict[str, str] = {}
        self.count = 0

    def name(self, stem: str) -> str:
        """Return a new name of a variable."""
        self.count += 1
        return f"{stem}{self.count}"

    def add(self, name: str, text: str, *needs: str) -> str:
        """Add an assignment, which needs some imports; return the variable's name."""
        self.lines.append(f"{name} = {text}")
        self.needs.update(needs)
        return name

    def point(self, point: Point) -> str:
        """Return the name of the variable that holds a point's codes."""
        if point not in self.names:
            self.names[point] = self._point(point)
        return self.names[point]

    def _point(self, point: Point) -> str:
        if isinstance(point, FromSeed):
            return self._sampled(point)
        if isinstance(point, FromData | FromFile | FromCodes):
            return self._loaded(point)
        if isinstance(point, Mean):
            parts = ", ".join(self.point(part) for part in point.of)
            text = f"{{k: torch.cat([c[k] for c in [{parts}]]).mean(0, keepdim=True) for k in {self.point(point.of[0])}}}"
            return self.add(self.name("mean"), text, "torch")
        if isinstance(point, Between):
            return self._between(point)
        of = self.point(point.of)
        if isinstance(point, Truncated):
            layers = "" if point.layers is None else f", {point.layers}"
            return self.add(self.name("codes"), f"truncate({of}, model.w_mean, {point.psi}{layers})", "truncate")
        if isinstance(point, Moved):
            return self._moved(of, point)
        if isinstance(point, Mixed):
            source = self.point(point.source)
            if point.layers is None:
                return self.add(self.name("codes"), f"lerp_towards({of}, {source}, {point.share})", "lerp_towards")
            return self.add(self.name("codes"), f"mix({of}, {source}, {point.layers}, model.spaces)", "mix")
        if isinstance(point, Relabelled):
            return self.add(self.name("codes"), f"with_labels({of}, {dict(point.labels)})", "with_labels")
        if isinstance(point, Painted):
            return self._painted(of, point)
        return self._resampled(of, point)

    def _sampled(self, point: FromSeed) -> str:
        labels = dict(point.labels)
        values = f"{{{', '.join(f'{k!r}: torch.tensor([{v}])' for k, v in labels.items())}}}" if labels else "None"
        random = f'anamorph.Seeded({point.seed}, "seed")'
        if isinstance(self.model, HasPrior):
            settings = f"SamplingSettings({point.temperature}, None, {point.top_p})"
            needs = ("SamplingSettings", *(["torch"] if labels else []))
            return self.add(
                f"seed{point.seed}_{len(self.lines)}", f"model.sample_codes(1, {random}, {values}, {settings})", *needs
            )
        text = f"model.sample_codes(1, {random}{', ' + values if labels else ''})"
        return self.add(self.name(f"seed{point.seed}_"), text, *(["torch"] if labels else []))

    def _loaded(self, point: FromData | FromFile | FromCodes) -> str:
        if isinstance(point, FromData):
            self.load("data", f"preview_data(settings_of(RunFolder({str(self.bench.run)!r})))", "data")
            batch = f"data.take({point.index}, 1, level_of(model, data.signal))"
            return self.add(self.name("codes"), f"encode_batch(model, {batch})", "level_of", "encode_batch")
        if isinstance(point, FromFile):
            return self._uploaded(point.name)
        self.lines.append("# codes of an optimisation or an upload: save them beside this file")
        path = f"codes-{point.digest[:8]}.safetensors"
        return self.add(self.name("codes"), f"read_codes(Path({path!r}))[0]", "read_codes", "Path")

    def _uploaded(self, name: str) -> str:
        """Add the code that encodes an uploaded file, which is read from beside the script."""
        is_image = isinstance(self.model.signal, Image)
        reader, name = ("read_images", name or "image.png") if is_image else ("read_sounds", name or "sound.wav")
        codes = self.add(self.name("codes"), f"model.encode({reader}([{name!r}], model.signal)[0])", reader)
        labels = dict.fromkeys(label_sizes(self.model), 0)
        return self.add(codes, f"with_labels({codes}, {labels})", "with_labels") if labels else codes

    def load(self, name: str, text: str, *needs: str) -> None:
        """Add an assignment, unless the variable has been set already."""
        if name not in self.loaded:
            self.loaded[name] = self.add(name, text, *needs)

    def _between(self, point: Between) -> str:
        ends = [f"{{k: v[0] for k, v in {self.point(end)}.items()}}" for end in point.ends]
        top = self.add(
            self.name("codes"), f"lerp_codes({ends[0]}, {ends[1]}, torch.tensor([{point.x}]))", "lerp_codes", "torch"
        )
        if len(ends) == 2:
            return top
        low = self.add(self.name("codes"), f"lerp_codes({ends[2]}, {ends[3]}, torch.tensor([{point.x}]))")
        both = ", ".join(f"{{k: v[0] for k, v in {name}.items()}}" for name in (top, low))
        return self.add(self.name("codes"), f"lerp_codes({both}, torch.tensor([{point.y}]))")

    def _moved(self, of: str, point: Moved) -> str:
        for along in point.along:
            directions, names = self._directions(along.directions)
            layers = "" if along.layers is None else f", {along.layers}"
            text = f"move({of}, {directions}, {along.which}, {along.steps}, code_space(model){layers})  # {names[along.which]}"
            of = self.add(self.name("codes"), text, "move", "code_space")
        return of

    def _directions(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Return the variable that holds a set of directions, and the names of its directions."""
        variable = "directions_" + re.sub(r"\W", "_", name)[:12]
        self.load("sets", f"DirectionSets(model, Path({str(self.bench.run)!r}))", "DirectionSets", "Path")
        group = self.bench.groups.get(name)
        if group is None:
            self.load(variable, f"sets.of({name!r})")
        elif variable not in self.loaded:
            sides = [f"[{', '.join(self.point(point) for point in side)}]" for side in (group.towards, group.away)]
            self.load(variable, f"sets.between({group.name!r}, {sides[0]}, {sides[1]})")
        return variable, self.bench.direction_sets.of(name).names

    def _painted(self, of: str, point: Painted) -> str:
        name = self.add(self.name("codes"), f"{{k: v.clone() for k, v in {of}.items()}}")
        cells = [(c.map, c.y, c.x, c.code) for c in point.cells]
        self.lines += [f"for m, y, x, code in {cells}:", f"    {name}[{point.space!r}][0, m, y, x] = code"]
        return name

    def _resampled(self, of: str, point: Redrawn) -> str:
        rows, columns = max(s.shape[-2:] for s in self.model.spaces if s.num_codes is not None and len(s.shape) == 3)
        mask = self.add(self.name("mask"), f"torch.zeros({rows}, {columns}, dtype=torch.bool)", "torch")
        self.lines += [f"for y, x in {[tuple(p) for p in point.places]}:", f"    {mask}[y, x] = True"]
        random, settings = f'anamorph.Seeded({point.seed}, "inpaint")', f"SamplingSettings({point.temperature})"
        return self.add(
            self.name("codes"), f"inpaint(model, {of}, {mask}, 1, {random}, {settings})", "inpaint", "SamplingSettings"
        )


def python_of(bench: Bench, points: Sequence[Point], look: DecodeOptions, columns: int | None = None) -> str:
    """Return a script that writes the picture of some points.

    Args:
        bench: evaluates the points.
        points: what the picture shows.
        look: how codes are decoded.
        columns: of a table; None: chosen by the number of points.
    """
    lines = _Lines(bench)
    names = [lines.point(point) for point in points]
    codes = names[0]
    if len(names) > 1:
        codes = lines.add("codes", f"{{k: torch.cat([c[k] for c in [{', '.join(names)}]]) for k in {names[0]}}}", "torch")
    noise = {"fixed": "", "off": ', "off"'}.get(look.noise)
    if noise is None:
        lines.needs.add("PerExampleRandom")
        noise = f', PerExampleRandom([anamorph.Seeded({look.noise_seed}, "noise") for _ in range({len(points)})])'
    shape = "" if columns is None else f", columns={columns}"
    write = f'anamorph.save_grid("picture.png", images{shape})'
    if not isinstance(bench.model.signal, Image):
        lines.needs.update(("show_all", "Path"))
        write = f'show_all(Path("sounds.png"), model.signal, sounds{shape})'
    imports = sorted({line for need in lines.needs for line in IMPORTS[need].splitlines()})
    others = [line for line in imports if "anamorph" not in line]
    own = [line for line in imports if "anamorph" in line]
    script = [*sorted(others, reverse=True), *([""] if others else []), "import anamorph", *own, ""]
    script += [
        f"model = anamorph.load({str(bench.run)!r})",
        *lines.lines,
        f"{bench.model.signal.noun}s = model.decode({codes}{noise})",
    ]
    return "\n".join([*script, write, ""])
