"""The page in a real browser: dragging, dropping, typing and clicking, and the pixels that are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anamorph.core.space import read_codes
from anamorph.studio.points import FromSeed
from anamorph.training.folder import RunFolder
from studios import bench_of, pixels, png_of

Visit = Callable[..., Any]
NOW = ".now-picture canvas"
READ = """canvas => [canvas.width, canvas.height,
  [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 < 3)]"""


# Nothing is pending, neither now nor after the next two frames, in which observers and redrawing may have begun new work.
IDLE = """async () => {
  for (let frame = 0; frame < 3; frame++) {
    if (document.documentElement.dataset.pending !== '0') return false;
    await new Promise(requestAnimationFrame);
  }
  return true;
}"""


def shown_by(page: Any, selector: str = NOW, nth: int = 0) -> Any:
    """Return the pixels [H, W, 3] that a canvas shows."""
    width, height, values = page.locator(selector).nth(nth).evaluate(READ)
    return np.array(values).reshape(height, width, 3)


def wait_until_idle(page: Any) -> None:
    """Wait until the page has no pending request, and has drawn all responses."""
    page.wait_for_function(IDLE)


def settled(page: Any, selector: str = NOW, nth: int = 0) -> Any:
    """Return what a canvas shows, once all that is pending has been drawn."""
    page.wait_for_function("([s, n]) => document.querySelectorAll(s)[n]?.dataset.shown", arg=[selector, nth])
    wait_until_idle(page)
    return shown_by(page, selector, nth)


def act_and_wait(page: Any, act: Callable[[], Any], selector: str, nth: int = 0) -> None:
    """Do something, and wait until a canvas shows something else."""
    wait_until_idle(page)
    before = page.locator(selector).nth(nth).evaluate("canvas => canvas.toDataURL()")
    act()
    page.wait_for_function(
        "([s, n, before]) => document.querySelectorAll(s)[n].toDataURL() !== before", arg=[selector, nth, before]
    )


def changes(page: Any, act: Callable[[], Any], selector: str = NOW, nth: int = 0) -> Any:
    """Do something that changes a canvas; return what it shows in the end."""
    settled(page, selector, nth)
    act_and_wait(page, act, selector, nth)
    return settled(page, selector, nth)


def wait_for_toast(page: Any, text: str) -> None:
    """Wait for a message, which may have disappeared already."""
    page.wait_for_function("text => window.toasts.some((toast) => toast.includes(text))", arg=text)


def drag(page: Any, selector: str, to: float, nth: int = 0, steps: int = 12) -> None:
    """Drag a slider's thumb to a share of the slider's length."""
    slider = page.locator(selector).nth(nth)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    least, most, value = (float(slider.get_attribute(a) or 0) for a in ("min", "max", "step"))
    value = float(slider.input_value())
    start = box["x"] + 9 + (box["width"] - 18) * (value - least) / (most - least)
    y = box["y"] + box["height"] / 2
    page.mouse.move(start, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 9 + (box["width"] - 18) * to, y, steps=steps)
    page.mouse.up()


def drag_and_watch(page: Any, selector: str, to: float, canvas: str) -> None:
    """Drag a slider's thumb in steps; a canvas changes at each of them, while the button of the mouse is down."""
    box = page.locator(selector).first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for share in np.linspace(0.5, to, 6)[1:]:
        x = box["x"] + 9 + (box["width"] - 18) * share
        act_and_wait(page, partial(page.mouse.move, x, y), canvas)
    page.mouse.up()


def saved(page: Any, entry: str, scope: str = "#panel .head") -> bytes:
    """Return what an entry of the menu saves."""
    page.click(f"{scope} .menu > button")
    with page.expect_download() as download:
        page.click(f"{scope} .menu [role=menuitem]:has-text('{entry}')")
    return Path(download.value.path()).read_bytes()


def pixels_of(images: Any) -> Any:
    return (images.clamp(-1, 1) * 127.5 + 127.5).round().permute(1, 2, 0).numpy()


def test_wall_shows_the_models_samples_and_takes_a_click(visit: Visit, runs: Path) -> None:
    page = visit("styled", "wall")
    page.wait_for_function("() => document.querySelectorAll('.tile canvas[data-shown]').length >= 16")
    bench = bench_of(runs / "styled")
    for nth in (0, 5):
        assert abs(settled(page, ".tile canvas", nth) - pixels_of(bench.see([FromSeed(seed=1 + nth)])[0])).max() <= 1
    changes(page, lambda: page.locator(".tile .slot").nth(5).click())
    assert (settled(page) == shown_by(page, ".tile canvas", 5)).all()
    changes(page, lambda: drag(page, ".controls input[type=range]", 0.2), ".tile canvas", 3)
    count = page.locator(".tile").count()
    page.mouse.move(600, 600)
    page.mouse.wheel(0, 20_000)
    page.wait_for_function(f"() => document.querySelectorAll('.tile').length > {count}")


def test_liked_samples_give_their_mean_and_it_can_be_undone(visit: Visit) -> None:
    page = visit("styled", "wall")
    page.wait_for_function("() => document.querySelectorAll('.tile canvas[data-shown]').length >= 16")
    first = settled(page)
    for nth in (1, 2):
        page.locator(".tile").nth(nth).hover()
        page.locator(".tile .like").nth(nth).click()
    assert "2 liked" in page.inner_text(".liked")
    mean = changes(page, lambda: page.click("button:has-text('Use their mean')"))
    page.click("text=Pin them")
    assert page.locator(".pin-box").count() == 2
    assert (changes(page, lambda: page.keyboard.press("Control+z")) == first).all()
    assert (changes(page, lambda: page.keyboard.press("Control+y")) == mean).all()


def test_a_prior_samples_by_temperature(visit: Visit) -> None:
    page = visit("drawn", "wall")
    settled(page, ".tile canvas", 2)
    assert page.locator("text=truncation").count() == 0
    page.locator(".controls input[type=range]").first.fill("0.1")
    settled(page, ".tile canvas", 2)


def test_reconstruct_takes_a_picked_dropped_and_pasted_image(visit: Visit, tmp_path: Path) -> None:
    page = visit("styled", "reconstruct")
    settled(page, ".stage canvas")
    assert page.inner_text(".numbers").count("mean squared error") == 1
    (tmp_path / "red.png").write_bytes(png_of((250, 10, 10)))
    changes(page, lambda: page.set_input_files("input[type=file][multiple]", str(tmp_path / "red.png")), ".stage canvas")
    assert (settled(page, ".stage canvas") == (250, 10, 10)).all()
    for kind, name, colour in (("drop", "blue.png", (10, 10, 250)), ("paste", "green.png", (10, 250, 10))):
        values = list(png_of(colour))
        give = f"""() => {{
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array({values})], '{name}', {{type: 'image/png'}}));
          const target = '{kind}' === 'drop' ? document.getElementById('panel') : document;
          const event = '{kind}' === 'drop' ? new DragEvent('drop', {{dataTransfer: data, bubbles: true}})
            : new ClipboardEvent('paste', {{clipboardData: data, bubbles: true}});
          target.dispatchEvent(event);
        }}"""
        changes(page, lambda give=give: page.evaluate(give), ".stage canvas")  # type: ignore[misc]
        assert (settled(page, ".stage canvas") == colour).all()
    changes(page, lambda: page.locator(".filmstrip .slot[title='data:1']").click(), ".stage canvas")
    page.locator(".divider").fill("20")
    assert "inset(0px 80% 0px 0px)" in page.locator(".stage .over").evaluate("e => getComputedStyle(e).clipPath")


def test_a_refinement_is_shown_and_comes_closer(visit: Visit) -> None:
    page = visit("styled", "reconstruct")
    settled(page, ".stage canvas", 1)
    page.locator(".card .slider input").fill("20")
    changes(page, lambda: page.click("text=Refine >> nth=-1"), ".stage canvas", 1)
    page.wait_for_selector("text=error after")
    before, after = (float(text) for text in page.locator(".numbers dd").all_inner_texts()[:2])
    assert after < before
    assert page.inner_text(".now .name") == "refined"


def test_hostile_files_are_reported_and_the_page_goes_on(visit: Visit, tmp_path: Path) -> None:
    page = visit("styled", "reconstruct", expect=("422",))
    settled(page, ".stage canvas")
    (tmp_path / "bad.png").write_bytes(b"this is no image")
    page.set_input_files("input[type=file][multiple]", str(tmp_path / "bad.png"))
    wait_for_toast(page, "not readable as an image")
    changes(page, lambda: page.locator(".filmstrip .slot[title='data:1']").click(), ".stage canvas")


def test_sliders_edit_hold_compares_and_reset_undoes(visit: Visit, runs: Path) -> None:
    page = visit("styled", "edit")
    first = settled(page, ".big canvas")
    drag_and_watch(page, ".sliders input", 0.9, ".big canvas")
    edited = settled(page, ".big canvas")
    value = float(page.locator(".sliders input").first.input_value())
    assert value == pytest.approx(3.2, abs=0.2)
    from anamorph.studio.points import Along, Moved

    point = Moved(of=FromSeed(seed=1), along=(Along(directions="pca", which=0, steps=value),))
    assert abs(edited - pixels_of(bench_of(runs / "styled").see([point])[0])).max() <= 1
    hold = page.locator("button:has-text('Hold to compare')")
    box = hold.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 10)
    assert (changes(page, page.mouse.down, ".big canvas") == first).all()
    assert (changes(page, page.mouse.up, ".big canvas") == edited).all()
    assert (
        changes(
            page,
            lambda: page.keyboard.press("Control+z"),
            ".big canvas",
        )
        == first
    ).all()
    assert float(page.locator(".sliders input").first.input_value()) == 0
    page.keyboard.press("Control+y")
    page.click("#panel .segments >> text=coarse")
    assert float(page.locator(".sliders input").first.input_value()) == 0  # of all layers, not of these
    page.select_option("#panel select[aria-label=Directions]", "sefa")
    changes(page, lambda: drag(page, ".sliders input", 0.1, nth=1), ".big canvas")
    assert (changes(page, lambda: page.click("button:has-text('Reset')"), ".big canvas") == first).all()


def test_two_groups_make_a_direction(visit: Visit) -> None:
    page = visit("styled", "wall")
    page.wait_for_function("() => document.querySelectorAll('.tile canvas[data-shown]').length >= 8")
    for nth in range(4):
        page.locator(".tile .slot").nth(nth).click()
        page.click(".now-acts button:has-text('Pin')")
    assert page.locator(".pin-box").count() == 4
    for nth in range(4):
        page.locator(".pin-box").nth(nth).locator(f"[aria-label='Group {'A' if nth < 2 else 'B'}']").click()
    page.click("nav a:has-text('Edit')")
    page.wait_for_selector("#panel[data-panel=edit] .sliders input")
    page.fill("[aria-label='Name of the new direction']", "mine")
    page.click("text=Make a direction")
    page.wait_for_function("() => document.querySelector('[aria-label=Directions]').selectedOptions[0].text === 'Own: mine'")
    changes(page, lambda: drag(page, ".sliders input", 0.95), ".big canvas")


def test_mix_table_takes_layers_from_rows(visit: Visit, runs: Path) -> None:
    page = visit("styled", "mix")
    from anamorph.studio.points import Mixed

    first = settled(page, ".mix-cell canvas", 0)
    point = Mixed(of=FromSeed(seed=1), source=FromSeed(seed=5), layers=(0, 1))
    assert abs(first - pixels_of(bench_of(runs / "styled").see([point])[0])).max() <= 1
    fine = changes(page, lambda: page.click("#panel .segments >> text=all"), ".mix-cell canvas", 0)
    assert abs(fine - settled(page, ".mix-head.row canvas", 0)).max() <= 1  # all layers: the row's image
    changes(page, lambda: page.locator(".mark.range").first.click(), ".mix-cell canvas", 0)
    assert page.locator(".mark.range").first.inner_text() == "C"
    top = settled(page, ".mix-head.column canvas", 1)
    page.locator(".mix-head.column").nth(1).drag_to(page.locator(".mix-head.column").nth(0))
    assert (settled(page, ".mix-head.column canvas", 0) == top).all()
    page.locator(".add").first.click()
    assert page.locator(".mix-head.column").count() == 5


def test_without_layers_a_share_is_mixed(visit: Visit) -> None:
    page = visit("plain", "mix")
    changes(page, lambda: drag(page, ".controls input[type=range]", 0.95), ".mix-cell canvas", 0)


def test_interpolation_follows_the_pointer_and_is_exported(visit: Visit) -> None:
    page = visit("styled", "interpolate")
    middle = settled(page, ".pad canvas")
    box = page.locator(".pad").bounding_box()
    near = changes(page, lambda: page.mouse.move(box["x"] + 6, box["y"] + 6, steps=4), ".pad canvas")
    page.locator(".pad").focus()
    corner = changes(page, lambda: [page.keyboard.press(key) for key in ("ArrowLeft", "ArrowUp")], ".pad canvas")
    exact = settled(page, ".corner-0 canvas")
    assert abs(corner - exact).max() <= 1
    assert abs(near - exact).mean() < abs(middle - exact).mean()
    changes(page, lambda: page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6))
    assert page.inner_text(".now .name") == "interpolated"
    grid = pixels(saved(page, "Strip or grid"))
    assert grid.shape[0] > 7 * 16
    page.click("#panel .segments >> text=two images")
    assert page.locator(".way .slot").count() == 7
    assert saved(page, "Film (WebP)")[8:12] == b"WEBP"


def test_codes_are_painted_and_sampled_anew(visit: Visit) -> None:
    page = visit("drawn", "codes")
    settled(page, ".boards .cell")
    page.wait_for_selector(".swatch-code[aria-selected=true]")
    page.locator(".swatch-code").nth(3).click()
    box = page.locator(".board").bounding_box()

    def stroke() -> None:
        page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.1)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9, steps=12)
        page.mouse.up()

    before = settled(page, ".boards .cell")
    changes(page, stroke, ".boards .cell")
    assert (changes(page, lambda: page.keyboard.press("Control+z"), ".boards .cell") == before).all()
    page.click("#panel .segments >> text=mask")
    page.click("text=Lower half")
    changes(page, lambda: page.click("text=Resample"), ".boards .cell")
    assert "resampled" in page.inner_text(".now .name")
    assert "codes are used" in page.inner_text("#panel")


def test_the_map_shows_neighbours_and_groups(visit: Visit) -> None:
    page = visit("styled", "map")
    page.wait_for_function("() => document.querySelector('#panel').innerText.includes('1,024 held-out')")
    canvas = page.locator("canvas.map")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    act_and_wait(page, lambda: page.mouse.wheel(0, -600), "canvas.map")
    page.select_option("[aria-label='How many images']", "512")
    page.wait_for_function("() => document.querySelector('#panel').innerText.includes('512 held-out')")
    page.click("#panel .segments >> text=t-SNE")
    page.wait_for_function("() => document.querySelector('#panel').innerText.includes('Neighbours lie together')")
    page.click("text=Whole map")
    page.click("#panel .segments >> text=box")
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=5)
    page.mouse.up()
    page.wait_for_selector("text=in the box")
    page.click(".card >> text=Group B")
    page.wait_for_function("() => document.querySelectorAll('.pin-box').length === 16")
    page.click("#panel .segments >> text=move")
    canvas.focus()
    for _ in range(40):  # until there is an image in the middle
        page.keyboard.press("Enter")
        if page.inner_text(".now .name").startswith("data "):
            break
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelectorAll('.filmstrip .slot').length === 12")
    assert page.inner_text(".now .name").startswith("data ")


def test_training_shows_curves_and_pictures(visit: Visit, runs: Path) -> None:
    page = visit("styled", "training")
    page.wait_for_function("() => document.querySelector('.legend').innerText.includes('styled')")
    chosen = page.locator("[aria-label='Loss or metric']")
    selected = chosen.evaluate("e => [e.value, e.selectedOptions[0].parentElement.label]")
    assert selected == ["reciprocity/latent", "reciprocity (inversion)"]
    page.click(".chips >> text=plain")
    page.wait_for_function("() => document.querySelectorAll('.key').length === 2")
    act_and_wait(page, lambda: page.select_option("[aria-label='Loss or metric']", index=1), "canvas.curves")
    page.wait_for_function("() => document.querySelector('.left-behind').naturalWidth > 50")
    RunFolder(runs / "plain").log({"images": 4321, "step": 9, "elbo/kl": 1.0})  # a training goes on
    page.wait_for_function("() => document.querySelector('.legend').innerText.includes('4.32k images')")


def test_training_leads_to_the_report_of_an_evaluation(visit: Visit, runs: Path) -> None:
    page = visit("drawn", "training")
    page.wait_for_function("() => document.querySelector('.legend').innerText.includes('drawn')")
    assert page.locator("a.report").count() == 0
    path = runs / "drawn" / "evaluation" / "report.html"
    path.parent.mkdir()
    path.write_text("<title>Report</title><p style='color: red'>well</p>", encoding="utf-8")
    with page.expect_popup() as popup:
        page.click("a.report >> text=Evaluation of drawn")
    popup.value.wait_for_selector("p >> text=well")
    assert popup.value.title() == "Report"


def test_compare_puts_models_side_by_side(visit: Visit) -> None:
    page = visit("styled", "compare")
    page.wait_for_function("() => document.querySelectorAll('.compare canvas[data-shown]').length >= 18")
    originals = settled(page, ".compare-row:first-child canvas")
    assert originals.shape == (16, 16, 3)
    page.click(".chips button:has-text('styled')")  # the other rows still show their pictures
    assert page.locator(".compare-row").count() == 3
    changes(page, lambda: page.click("button:has-text('Next')"), ".compare-row:first-child canvas")
    page.click("#panel .segments >> text=samples")
    page.wait_for_function("() => document.querySelector('.compare-row').hidden")


def test_everything_is_saved_and_a_session_opens_again(visit: Visit, runs: Path, tmp_path: Path) -> None:
    page = visit("styled", "edit")
    changes(page, lambda: drag(page, ".sliders input", 0.8), ".big canvas")
    page.click(".now-acts button:has-text('Pin')")
    current = settled(page)
    assert abs(pixels(saved(page, "Picture")) - current).max() <= 1
    (tmp_path / "c.safetensors").write_bytes(saved(page, "Codes"))
    assert read_codes(tmp_path / "c.safetensors")[0]["w"].shape == (1, 6, 8)
    page.click("#panel .head .menu > button")
    page.click("#panel .head [role=menuitem]:has-text('Python')")
    assert "move(" in page.inner_text("dialog pre")
    page.click("dialog >> text=Close")
    session = saved(page, "Save this session", "#bar-end")
    assert json.loads(session)["run"] == "styled"
    other = visit("plain", "wall")
    (tmp_path / "s.json").write_bytes(session)
    other.set_input_files("input[type=file][accept='.json']", str(tmp_path / "s.json"))
    other.wait_for_selector("#panel[data-panel=edit]")
    other.wait_for_function("() => document.querySelectorAll('.pin-box').length === 1")
    assert (settled(other) == current).all()


def test_a_failure_of_the_model_is_shown_and_the_page_goes_on(
    visit: Visit, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anamorph.studio.bench import Bench

    page = visit("styled", "edit")
    settled(page, ".big canvas")
    real = Bench.decode

    def broken(self: Any, codes: Any, look: Any) -> Any:
        raise ValueError("a weight is gone")

    monkeypatch.setattr(Bench, "decode", broken)
    drag(page, ".sliders input", 0.8)
    wait_for_toast(page, "a weight is gone")
    monkeypatch.setattr(Bench, "decode", real)
    changes(page, lambda: drag(page, ".sliders input", 0.2), ".big canvas")


def test_it_can_be_used_by_keyboard_alone(visit: Visit) -> None:
    page = visit("styled", "edit")
    settled(page, ".big canvas")
    page.locator(".sliders input").first.focus()
    changes(page, lambda: [page.keyboard.press("ArrowRight") for _ in range(12)], ".big canvas")
    assert float(page.locator(".sliders input").first.input_value()) == pytest.approx(0.6)
    page.keyboard.press("Delete")
    assert float(page.locator(".sliders input").first.input_value()) == 0
    page.locator("#panel .segments [role=radio]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel .segments [aria-checked=true]").inner_text() == "coarse"
    page.locator("nav a").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel[data-panel=mix]")


@pytest.mark.parametrize("run", ["styled", "drawn"])
def test_nothing_sticks_out_at_360_pixels_and_all_controls_have_names(visit: Visit, run: str) -> None:
    page = visit(run, "training", width=360, height=740, has_touch=True)
    for link in page.locator("nav a").all():
        link.click()
        page.wait_for_selector(f"#panel[data-panel={str(link.get_attribute('href')).rsplit('/', 1)[-1]}] .head")
        wait_until_idle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, a, canvas')].filter((e) => {
              const label = e.id && document.querySelector(`label[for="${e.id}"]`);
              const named = e.getAttribute('aria-label') || e.closest('button')?.getAttribute('aria-label') || e.title;
              return e.checkVisibility() && !named && !e.innerText?.trim() && !e.closest('label')?.innerText.trim() && !label;
            }).map((e) => e.outerHTML.slice(0, 120))"""
        )
        assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit: Visit, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 for text (of 3 for controls' edges), for every pair of colours that is used."""
    page = visit("styled", "edit", color_scheme=scheme)
    names = ("paper", "card", "sunk", "ink", "soft", "accent", "accent-soft", "on-accent", "like", "bad", "edge")
    found = page.evaluate(
        "names => names.map((n) => getComputedStyle(document.documentElement).getPropertyValue('--' + n))", names
    )
    colours = {
        name: [int(text.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)] for name, text in zip(names, found, strict=True)
    }

    def light(name: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colours[name]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((light(a), light(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ink in ("ink", "soft", "accent"):
        for ground in ("paper", "card", "sunk"):
            assert contrast(ink, ground) >= 4.5, (ink, ground)
    assert contrast("accent", "accent-soft") >= 4.5
    assert contrast("on-accent", "accent") >= 4.5
    assert contrast("card", "like") >= 4.5
    assert contrast("edge", "card") >= 3
