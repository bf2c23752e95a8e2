"""The HTTP API: what scripts can request, and what is refused."""

from __future__ import annotations

import io
import json
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image as Pillow

from anamorph.core.errors import UserError
from anamorph.core.space import read_codes
from anamorph.studio.limits import BODY_BYTES, JOBS, UPLOAD_BYTES
from anamorph.studio.points import FromData, FromSeed
from anamorph.studio.service import Service, find_runs
from studios import EndlessOptimisation, bench_of, pixels, png_of, studio_of

SEED = {"kind": "seed", "seed": 7}


def error(answer: httpx.Response, status: int = 422) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"])


def test_runs_are_listed_and_described_by_their_capabilities(client: httpx.Client) -> None:
    assert {run["id"] for run in client.get("api/runs").json()} == {"coded", "drawn", "plain", "styled"}
    styled, plain, coded, drawn = (client.get(f"api/runs/{run}").json() for run in ("styled", "plain", "coded", "drawn"))
    assert styled["panels"] == ["wall", "reconstruct", "edit", "mix", "interpolate", "map", "training", "compare"]
    assert styled["layers"]["count"] == 6
    assert styled["layers"]["sides"] == [4, 4, 8, 8, 16, 16]
    assert plain["layers"] is None
    assert "sefa" not in plain["directions"]
    assert coded["panels"] == ["reconstruct", "codes", "training", "compare"]
    assert "wall" in drawn["panels"]
    assert drawn["temperature"]


def test_a_picture_is_the_one_that_the_model_makes(client: httpx.Client, runs: Path) -> None:
    seen = bench_of(runs / "styled").see([FromSeed(seed=7)])[0]
    picture = client.post("api/runs/styled/decode", json={"points": [SEED]})
    assert picture.headers["content-type"] == "image/png"
    expected = (seen.clamp(-1, 1) * 127.5 + 127.5).round().permute(1, 2, 0).numpy()
    assert abs(pixels(picture.content) - expected).max() <= 1


def test_every_route_returns_pictures_films_codes_and_python(client: httpx.Client, tmp_path: Path) -> None:
    ends = [{"kind": "seed", "seed": i} for i in range(4)]
    bodies: dict[str, dict[str, Any]] = {
        "decode": {"points": ends},
        "draw": {"n": 5, "psi": 0.7},
        "edit": {"point": SEED, "along": [{"directions": "pca", "which": 0, "steps": 2}]},
        "mix": {"rows": ends[:2], "columns": ends[2:], "layers": [0, 1]},
        "interpolate": {"ends": ends, "steps": 3},
    }
    for name, body in bodies.items():
        assert pixels(client.post(f"api/runs/styled/{name}", json=body).content).ndim == 3
        codes = client.post(f"api/runs/styled/{name}", json={**body, "as": "codes"})
        (tmp_path / "c.safetensors").write_bytes(codes.content)
        stored, _, _ = read_codes(tmp_path / "c.safetensors")
        assert len(stored["w"]) == {"decode": 4, "draw": 5, "edit": 1, "mix": 4, "interpolate": 9}[name]
        script = client.post(f"api/runs/styled/{name}", json={**body, "as": "python"})
        compile(script.text, name, "exec")
    film = client.post("api/runs/styled/interpolate", json={"ends": ends[:2], "steps": 12, "as": "webp"})
    assert getattr(Pillow.open(io.BytesIO(film.content)), "n_frames", 1) == 22
    assert "2 to 240 frames" in error(client.post("api/runs/styled/decode", json={"points": [SEED], "as": "webp"}))


def test_codes_that_were_saved_come_back(client: httpx.Client) -> None:
    codes = client.post("api/runs/styled/decode", json={"points": [SEED], "as": "codes"}).content
    points = client.post("api/runs/styled/codes", content=codes).json()["points"]
    one, two = (client.post("api/runs/styled/decode", json={"points": p}).content for p in ([SEED], points))
    assert abs(pixels(one) - pixels(two)).max() <= 1
    assert "cannot read the file that was sent" in error(client.post("api/runs/styled/codes", content=png_of()))
    assert "space 'w'" in error(client.post("api/runs/plain/codes", content=codes))


def test_an_uploaded_image_is_encoded(client: httpx.Client) -> None:
    point = client.post("api/runs/styled/encode", content=png_of()).json()["point"]
    original = pixels(client.post("api/runs/styled/original", json={"point": point}).content)
    assert original.shape == (16, 16, 3)
    assert (original == (200, 30, 90)).all()
    assert client.post("api/runs/styled/decode", json={"points": [point]}).status_code == 200
    assert "spaces" in client.post("api/runs/styled/encode?as=codes", content=png_of()).text[:400]
    digest = client.post("api/images", content=png_of(kind="JPEG")).json()["digest"]
    assert client.post("api/runs/plain/decode", json={"points": [{"kind": "file", "digest": digest}]}).status_code == 200


def _bomb() -> bytes:
    """Return a PNG of a few hundred bytes whose header gives a size of 60000x60000."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not readable as an image"),
        (b"hello", "not readable as an image"),
        (b"GIF89a" + b"\0" * 20, "not readable as an image"),
        (_bomb(), "exceeds limit"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "not readable as an image"),
        (b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", "not readable as an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "not readable as an image (it is of no format"),
        (png_of(kind="ICO", size=(16, 16)), "PNG, JPEG, WebP, GIF, BMP and TIFF are taken"),
        (png_of(size=(7000, 6000)), "over the limit of 40 megapixels"),
    ],
    ids=["empty", "text", "short-gif", "bomb", "eps", "pickle", "svg", "ico", "large"],
)
def test_hostile_uploads_are_refused(client: httpx.Client, content: bytes, message: str) -> None:
    assert message in error(client.post("api/images", content=content))


def test_damaged_images_are_reported_when_they_are_encoded(client: httpx.Client) -> None:
    whole = png_of(size=(300, 300), colour=(1, 2, 3))
    answer = client.post("api/runs/styled/encode", content=whole[: len(whole) // 2])
    assert "damaged or cut short" in error(answer)


def test_too_many_bytes_are_refused(client: httpx.Client) -> None:
    assert client.post("api/images", content=b"x" * (UPLOAD_BYTES + 1)).status_code == 413
    assert client.post("api/runs/styled/decode", content=b"x" * (BODY_BYTES + 1)).status_code == 413

    def endless() -> Any:
        for _ in range(40):
            yield b"x" * 100_000

    with pytest.raises(httpx.HTTPError):  # without a content length, the connection is cut at the limit
        client.post("api/runs/styled/decode", content=endless()).raise_for_status()


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "js/../../app.py",
        "js/%2e%2e/%2e%2e/app.py",
        "api/runs/..%2fstyled",
        "api/runs/%2e%2e/metrics",
        "api/runs/styled/pictures/..%2fconfig.json",
        "api/runs/styled/pictures/%2e%2e%2fconfig.json",
        "api/runs/styled/pictures/config.json",
        "api/runs/styled/directions/..%2f..%2fplain",
        "api/runs/styled/usage/..%2f..",
    ],
)
def test_no_other_file_can_be_read(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422), answer.text
    assert "format" not in answer.text
    assert "import" not in answer.text


def test_invalid_requests_are_explained(client: httpx.Client) -> None:
    def message(path: str, body: Any) -> str:
        return error(client.post(f"api/runs/{path}", json=body))

    assert "no run 'nothing'" in message("nothing/decode", {"points": [SEED]})
    assert "points" in message("styled/decode", {"points": []})
    assert "points" in message("styled/decode", {"points": [SEED] * 200})
    assert "n: " in message("styled/draw", {"n": 65})
    assert "a strip is between two points, a grid between four" in message("styled/interpolate", {"ends": [SEED] * 3})
    assert "at most 12 steps" in message("styled/interpolate", {"ends": [SEED] * 4, "steps": 20})
    assert "there are layers 0-5" in message("styled/mix", {"rows": [SEED], "columns": [SEED], "layers": [9]})
    assert "a temperature or top-p" in message("styled/draw", {"temperature": 0.5})
    assert "needs a model that samples" in message("coded/draw", {})
    assert "steps" in message("styled/project", {"target": SEED, "project": {"steps": 10**6}})
    deep = json.dumps(SEED)
    for _ in range(300):
        deep = f'{{"kind": "truncate", "psi": 1, "of": {deep}}}'
    answer = client.post(
        "api/runs/styled/decode", content=f'{{"points": [{deep}]}}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422


def test_pictures_that_do_not_fit_into_memory_are_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(runs / "styled")
    monkeypatch.setattr("anamorph.studio.bench.VALUES", 4 * 3 * 16 * 16)
    assert len(bench.see([FromSeed(seed=i) for i in range(4)])) == 4
    with pytest.raises(UserError, match="5 pictures of 16x16 with 3 channels were requested at once: request at most 4"):
        bench.see([FromSeed(seed=i) for i in range(5)])


def test_a_projection_comes_closer(client: httpx.Client, runs: Path) -> None:
    body = {"target": {"kind": "data", "index": 1}, "project": {"free": "w+", "steps": 10}}
    refined = client.post("api/runs/styled/project", json=body).json()
    assert refined["after"] < refined["before"]
    assert client.post("api/runs/styled/decode", json={"points": [refined["point"]]}).status_code == 200
    assert "discrete codes, which cannot be optimised" in error(
        client.post("api/runs/coded/project", json=body | {"project": {"steps": 3}})
    )


def test_a_client_that_leaves_frees_its_slot(
    client: httpx.Client, address: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = EndlessOptimisation(service)
    body = {"target": {"kind": "data", "index": 1}, "project": {"steps": 10}}
    with monkeypatch.context() as patch:
        patch.setattr("anamorph.studio.api.refine", endless)
        for _ in range(JOBS + 1):
            request = httpx.Request("POST", f"{address}api/runs/styled/project", json=body)
            with socket.create_connection((request.url.host, request.url.port)) as connection:
                lines = ["POST /api/runs/styled/project HTTP/1.1", *(f"{k}: {v}" for k, v in request.headers.items()), "", ""]
                connection.sendall("\r\n".join(lines).encode() + request.content)
                endless.wait_until_started()
            endless.wait_until_all_ended()
    assert client.post("api/runs/styled/project", json=body).status_code == 200


def test_a_map_places_codes_and_knows_neighbours(client: httpx.Client, runs: Path) -> None:
    facts = client.get("api/runs/styled/map?n=64").json()
    assert len(facts["places"]) == len(facts["labels"]["shape"]["of"]) == 64
    assert client.get("api/runs/styled/map/atlas?n=64").headers["content-type"] == "image/webp"
    bench = bench_of(runs / "styled")
    w = bench.codes([FromData(index=i) for i in range(64)])["w"][:, 0]
    nearest = torch.cdist(w[:1], w)[0].argsort()[1:6].tolist()
    assert client.get("api/runs/styled/map/neighbours?index=0&n=64&k=5").json() == nearest
    assert "numbered from 0" in error(client.get("api/runs/styled/map/neighbours?index=64&n=64"))
    assert "whole numbers" in error(client.get("api/runs/coded/map?n=32"))
    near = client.get("api/runs/styled/map?n=64&layout=tsne").json()
    assert (len(near["places"]), near["shares"]) == (64, [])
    assert client.get("api/runs/styled/map?n=64&layout=random").status_code == 422


def test_grids_palette_and_usage_of_codes(client: httpx.Client) -> None:
    point = {"kind": "data", "index": 0}
    grid = client.post("api/runs/coded/grids", json={"point": point}).json()["codes"]
    assert len(grid) == 1
    assert len(grid[0]) == 4
    painted = {"kind": "paint", "of": point, "space": "codes", "cells": [{"y": 0, "x": 0, "code": (grid[0][0][0] + 1) % 12}]}
    assert client.post("api/runs/coded/grids", json={"point": painted}).json()["codes"][0][0][0] == (grid[0][0][0] + 1) % 12
    patches = client.post("api/runs/coded/palette", json={"point": point, "space": "codes"})
    assert json.loads(patches.headers["layout"])["count"] == 12
    used = client.get("api/runs/coded/usage/codes").json()
    assert sum(used["counts"]) == used["images"] * 16
    painted["cells"][0]["code"] = 99  # type: ignore[index]
    assert "codes 0-11; got 99" in error(client.post("api/runs/coded/decode", json={"points": [painted]}))
    assert "no grid" in error(client.post("api/runs/coded/palette", json={"point": point, "space": "w"}))


def test_training_is_reported_from_its_log(client: httpx.Client, runs: Path) -> None:
    metrics = client.get("api/runs/styled/metrics").json()
    assert metrics["lines"][-1]["images"] == 16
    assert not metrics["running"]
    assert client.get("api/runs/styled/metrics?after=16").json()["lines"] == []
    names = client.get("api/runs/styled/pictures").json()
    assert "timeline.png" in names
    assert client.get("api/runs/styled/pictures/timeline.png").content == (runs / "styled/pictures/timeline.png").read_bytes()


def test_the_report_of_an_evaluation_is_shown_and_nothing_runs_in_it(client: httpx.Client, runs: Path) -> None:
    assert "has not been evaluated: `anamorph evaluate plain`" in error(client.get("api/runs/plain/report"))
    assert not client.get("api/runs/plain/metrics").json()["report"]
    path = runs / "coded" / "evaluation" / "report.html"
    path.parent.mkdir()
    path.write_text("<title>Report</title>", encoding="utf-8")
    assert client.get("api/runs/coded/metrics").json()["report"]
    report = client.get("api/runs/coded/report")
    assert report.text == "<title>Report</title>"
    policy = report.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script" not in policy
    assert policy.count("default-src 'none'") == 1


def test_a_session_is_read_or_refused(client: httpx.Client) -> None:
    session = {"run": "styled", "current": SEED, "pins": [{"point": {"kind": "data", "index": 1}, "group": "a"}]}
    assert client.post("api/sessions", json=session).json()["pins"][0]["group"] == "a"
    assert "no run" in error(client.post("api/sessions", json={**session, "run": "../styled"}))
    assert "format" in error(client.post("api/sessions", json={**session, "format": 3}))
    assert "pins.0.point" in error(client.post("api/sessions", json={**session, "pins": [{"point": {"kind": "x"}}]}))


def test_the_api_is_described(client: httpx.Client) -> None:
    description = client.get("api/openapi.json").json()
    routes = {path.rsplit("/", 1)[-1] for path in description["paths"]}
    assert {"encode", "decode", "draw", "edit", "mix", "interpolate", "project"} <= routes
    assert {"FromSeed", "Moved", "Mixed"} <= set(description["components"]["schemas"])
    decode, upload = description["paths"]["/api/runs/{run}/decode"]["post"], description["paths"]["/api/images"]["post"]
    assert {"image/png", "video/mp4", "application/octet-stream"} <= set(decode["responses"]["200"]["content"])
    assert set(upload["requestBody"]["content"]) == {"application/octet-stream"}
    for status in ("403", "404", "405", "413", "422", "500", "503"):
        assert "Problem" in json.dumps(upload["responses"][status])


def test_errors_are_json_below_api_and_text_elsewhere(client: httpx.Client) -> None:
    elsewhere = {"origin": "http://elsewhere.example"}
    answers = {
        403: client.post("api/sessions", json={}, headers=elsewhere),
        404: client.get("api/nothing"),
        405: client.put("api/runs"),
        413: client.post("api/sessions", content=b"x" * (BODY_BYTES + 1)),
        422: client.get("api/runs/nobody"),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    assert all(answer.json()["error"] for answer in answers.values())
    assert client.get("", headers={"host": "rebound.example"}).text.startswith("the studio does not answer to this host name")


def test_pages_have_a_content_security_policy_and_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert client.get("nothing.js").status_code == 404


def test_only_the_studios_own_page_may_send_requests(client: httpx.Client, address: str) -> None:
    body = {"points": [SEED]}
    for headers in ({"origin": "http://elsewhere.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.post("api/runs/styled/decode", json=body, headers=headers).status_code == 403
    own = {"origin": address.rstrip("/")}
    assert client.post("api/runs/styled/decode", json=body, headers=own).status_code == 200
    assert client.get("api/runs", headers={"host": "rebound.example"}).status_code == 403


def test_requests_without_the_token_are_refused(runs: Path) -> None:
    service = Service(find_runs([runs / "plain"]))
    with studio_of(service, token="secret") as address, httpx.Client(base_url=address) as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"cookie": "anamorph-studio=secre"},
            {"cookie": "anamorph-studio="},
        ):
            assert client.get("api/runs", headers=headers).status_code == 403
            assert client.get("", headers=headers).status_code == 403
        assert client.get("?token=wrong").status_code == 403
        assert client.get("api/runs?token=secret").status_code == 403
        assert client.get("api/runs", headers={"authorization": "Bearer secret"}).status_code == 200
        arrived = client.get("?token=secret")
        assert arrived.status_code == 303
        assert "HttpOnly" in arrived.headers["set-cookie"]
        assert "SameSite=Strict" in arrived.headers["set-cookie"]
        client.cookies.set("anamorph-studio", "secret")
        assert client.get("api/runs").status_code == 200
    service.close()


def test_the_least_recently_used_models_are_closed(runs: Path) -> None:
    service = Service(find_runs([runs]), max_models=2)
    first = service.worker("styled")
    assert service.worker("styled") is first
    service.worker("plain")
    service.worker("coded")
    assert service.worker("styled") is not first
    service.close()


def test_a_newer_checkpoint_is_loaded_when_the_run_is_opened(runs: Path) -> None:
    service = Service(find_runs([runs]))
    first = service.worker("styled")
    assert service.worker("styled", renew=True) is first
    newest = max((runs / "styled/checkpoints").glob("*.safetensors"))
    newest.touch()
    assert service.worker("styled", renew=True) is not first
    service.close()
