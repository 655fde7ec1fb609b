"""HTTP caching: ETag, Cache-Control, and the checkpoint that a URL names."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import isal
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from service.app import create_app
from service.gan import checkpoint, drawing
from service.gan.caching import build_tag
from service.gan.checkpoint import GENERATOR_FILE
from service.gan.networks import Discriminator
from service.settings import Settings
from tests.service.conftest import wait_until_ready
from tests.service.gan.conftest import make_companions, write_companions
from tests.service.http import assert_problem

IMMUTABLE = "max-age=31536000, immutable"


def served(client: TestClient) -> str:
    """The sha256 of the generator, from X-Checkpoint."""
    return str(client.get("/gan/generate?seed=1").headers["x-checkpoint"])


def test_without_a_seed_a_random_one_is_returned_and_the_answer_is_not_stored(client: TestClient) -> None:
    for condition in ("", f"?checkpoint={served(client)}"):
        first, second = client.get(f"/gan/generate{condition}"), client.get(f"/gan/generate{condition}")
        assert first.headers["cache-control"] == "no-store"
        assert "etag" not in first.headers
        assert first.headers["x-seed"] != second.headers["x-seed"]
        again = client.get("/gan/generate", params={"seed": first.headers["x-seed"]})
        assert again.content == first.content


@pytest.mark.parametrize("path", ["generate?seed=7&count=4", "interpolate?seeds=1,2&frames=2"])
@pytest.mark.parametrize("named", [False, True])
def test_a_seeded_answer_has_an_etag_that_revalidates_it(client: TestClient, path: str, named: bool) -> None:
    url = f"/gan/{path}" + (f"&checkpoint={served(client)}" if named else "")
    first = client.get(url)
    etag = first.headers["etag"]
    assert etag.startswith('"')
    assert first.headers["cache-control"] == (IMMUTABLE if named else "no-cache")
    assert client.get(url).content == first.content
    for values in ([etag], [f'"other", {etag}'], [f"W/{etag}"], ["*"], ['"other"', etag], [etag, '"other"']):
        cached = client.get(url, headers=[("if-none-match", value) for value in values])
        assert (cached.status_code, cached.content, cached.headers["etag"]) == (304, b"", etag)
        for name in {"x-seed", "cache-control", "x-checkpoint"} & set(first.headers):
            assert cached.headers[name] == first.headers[name]
    for values in (['"other"'], ['"other"', '"another"'], [""], ["*", '"other"']):
        assert client.get(url, headers=[("if-none-match", value) for value in values]).status_code == 200


@pytest.mark.parametrize("digits", [12, 13, 63, 64])
def test_a_checkpoint_may_be_named_by_12_or_more_digits_and_changes_no_byte(client: TestClient, digits: int) -> None:
    plain = client.get("/gan/generate?seed=7")
    named = client.get("/gan/generate", params={"seed": 7, "checkpoint": served(client)[:digits]})
    assert (named.content, named.headers["etag"]) == (plain.content, plain.headers["etag"])
    assert named.headers["cache-control"] == IMMUTABLE


def test_the_digits_of_a_checkpoint_may_be_in_upper_case(client: TestClient) -> None:
    own = served(client)
    for name in (own, own[:12], own.upper(), own[:12].upper()):
        assert client.get("/gan/generate", params={"seed": 7, "checkpoint": name}).status_code == 200


@pytest.mark.parametrize("query", ["digit=3", "digits=12", "sampler=rejection", "scores=true", "format=json"])
def test_answers_that_depend_on_other_networks_are_revalidated_even_with_a_named_generator(
    rich: TestClient, query: str
) -> None:
    for path in ("generate?seed=7", "interpolate?seeds=1,2&frames=2"):
        if path.startswith("interpolate") and not query.startswith("digit="):
            continue
        answer = rich.get(f"/gan/{path}&{query}&checkpoint={served(rich)}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["etag"]


def test_immutable_answers_keep_their_bytes_when_the_other_networks_change(furnished: Path, tmp_path: Path) -> None:
    """The same generator beside another discriminator and other companions."""
    folder = Path(shutil.copytree(furnished, tmp_path / "checkpoints"))
    torch.manual_seed(9)
    checkpoint.save(folder / checkpoint.DISCRIMINATOR_FILE, Discriminator().state_dict())
    manifest = checkpoint.read_manifest(folder)
    digest = checkpoint.sha256(folder / checkpoint.DISCRIMINATOR_FILE)
    files = manifest.files | {checkpoint.DISCRIMINATOR_FILE: digest}
    checkpoint.write_manifest(folder, manifest._replace(files=files))
    made = make_companions()
    write_companions(folder, made._replace(thresholds=(0.15,) * 10))
    urls = [f"generate?seed={seed}&count=9{more}" for seed in (1, 2) for more in ("", "&format=npy", "&truncation=0.7")]
    urls += ["interpolate?seeds=1,2&frames=3", "generate?seed=1&digit=3&count=9", "generate?seed=1&scores=true"]
    answers = []
    for path in (furnished, folder):
        with TestClient(create_app(Settings(checkpoints=path, device="cpu"))) as client:
            wait_until_ready(client)
            condition = f"&checkpoint={manifest.files[GENERATOR_FILE]}"
            answers.append([client.get(f"/gan/{url}{condition}") for url in urls])
    for one, other in zip(*answers, strict=True):
        assert one.status_code == other.status_code == 200
        assert one.headers["etag"] != other.headers["etag"]
        if one.headers["cache-control"] == IMMUTABLE:
            assert one.content == other.content
    changed = [one.content != other.content for one, other in zip(*answers, strict=True)]
    assert changed == [False] * 7 + [True] * 2


@pytest.mark.parametrize("name", ["0" * 64, "0" * 12, "another", "", "11 digits", "too long"])
def test_an_unknown_checkpoint_is_a_404_that_names_the_one_being_served(client: TestClient, name: str) -> None:
    own = served(client)
    name = {"11 digits": own[:11], "too long": own + "0"}.get(name, name)
    answers = [
        client.get("/gan/generate", params={"seed": 7, "checkpoint": name}, headers={"if-none-match": "*"}),
        client.get("/gan/interpolate", params={"seeds": "1,2", "checkpoint": name}, headers={"if-none-match": "*"}),
        client.post("/gan/generate", json={"seed": 7, "checkpoint": name}),
        client.post("/gan/generate", json={"latents": [[0.0] * 128], "checkpoint": name}),
    ]
    for answer in answers:
        problem = assert_problem(answer, 404)
        assert problem["type"] == "urn:latentserve:problem:unknown-checkpoint"
        assert own in problem["detail"]
        assert ("has 65 characters, and a sha256 has 64" in problem["detail"]) == (len(name) == 65)
        (error,) = problem["errors"]
        assert (error["pointer"], error["allowed"]) == ("/checkpoint", [own, own[:12]])
        assert answer.headers["cache-control"] == "no-store"


def test_the_checkpoint_parameter_accepts_x_checkpoint_of_every_answer(client: TestClient) -> None:
    images = client.get("/gan/generate?seed=1&format=json").json()["images"]
    answers = [
        client.get("/gan/generate"),
        client.get("/gan/generate?seed=7&format=npy"),
        client.get("/gan/interpolate?seeds=1,2&frames=2"),
        client.post("/gan/generate", json={"seed": 7, "checkpoint": served(client)}),
        client.post("/gan/discriminate", json={"images": images}),
        client.post("/gan/invert", json={"images": images}),
    ]
    for answer in answers:
        named = client.get("/gan/generate", params={"seed": 1, "checkpoint": answer.headers["x-checkpoint"]})
        assert named.status_code == 200
    assert served(client).startswith(client.get("/v2/models/gan").json()["versions"][0])


def test_etags_differ_if_the_bytes_may_differ(client: TestClient) -> None:
    urls = [
        "seed=7", "seed=8", "seed=7&count=2", "seed=7&scale=2", "seed=7&format=webp", "seed=7&format=npy",
        "seed=7&format=json", "seed=7&count=2&columns=1",
    ]  # fmt: skip
    assert len({client.get(f"/gan/generate?{url}").headers["etag"] for url in urls}) == len(urls)
    # Different notations of the same request have the same ETag.
    same = {client.get(f"/gan/generate?{url}").headers["etag"] for url in ("seed=7", "count=1&seed=7", "seed=07")}
    assert len(same) == 1


def test_etags_differ_between_controls(rich: TestClient) -> None:
    queries = ["", "&digit=1", "&digits=1", "&sampler=rejection", "&truncation=0.5", "&scores=true"]
    assert len({rich.get(f"/gan/generate?seed=7{query}").headers["etag"] for query in queries}) == len(queries)


def test_build_tags_differ_between_checkpoints_versions_and_processors() -> None:
    digests = [{"generator": g, "discriminator": d} for g in "ab" for d in "ab"]
    tags = {build_tag(files, version, kind) for files in digests for version in "12" for kind in ("cpu", "gpu")}
    assert len(tags) == 16


@pytest.mark.parametrize(("module", "name"), [(drawing, "REVISION"), (isal, "__version__"), (np, "__version__")])
def test_a_build_tag_changes_with_the_drawing_and_the_libraries(
    module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build_tag({}, "1", "cpu")
    monkeypatch.setattr(module, name, "another")
    assert build_tag({}, "1", "cpu") != before
