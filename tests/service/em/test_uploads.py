"""Forms: files in every format, texts as JSON or words, and what is no form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from service.em.uploads import Form, read_form
from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody, UnsupportedMediaType
from service.formats.clouds.writing import WRITERS, Format, write_cloud
from service.formats.json_numbers import reading

POINTS = np.array([[0.1, -2.0], [1 / 3, 4.0], [5.0, 6e10]])
Post = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def read() -> Post:
    """Send a form to `read_form` and give its answer, or raise its error."""
    reading.warm_up()  # a service does it at its start
    outcome: list[object] = []

    async def endpoint(request: Request) -> Response:
        try:
            outcome.append((await read_form(request, max_elements=1_000_000))._asdict())
        except LatentserveError as error:
            outcome.append(error)
        return Response()

    client = TestClient(Starlette(routes=[Route("/", endpoint, methods=["POST"])]))

    def send(**how: Any) -> dict[str, Any]:
        outcome.clear()
        assert client.post("/", **how).status_code == 200
        if isinstance(outcome[0], LatentserveError):
            raise outcome[0]
        assert isinstance(outcome[0], dict)
        return outcome[0]

    return send


@pytest.fixture(scope="module")
def post(read: Post) -> Post:
    """Only the fields of the answer."""

    def send(**how: Any) -> dict[str, Any]:
        fields = read(**how)["fields"]
        assert isinstance(fields, dict)
        return fields

    return send


@pytest.mark.parametrize("kind", WRITERS)
def test_files_of_every_format_become_arrays(post: Post, kind: Format) -> None:
    file = (f"cloud.{kind}", write_cloud(POINTS, kind))
    fields = post(files={"source": file, "target": file})
    assert list(fields) == ["source", "target"]
    for cloud in fields.values():
        assert np.array_equal(cloud, POINTS)
        assert cloud.dtype == np.float64


def test_texts_are_what_they_are_as_json_or_else_words(post: Post) -> None:
    texts = {
        "source": "[[0, 1.5], [2, 3]]", "transform": "rigid", "matching": '"one_to_one"', "sigma": " 0.1 ",
        "prior": "null", "init": '{"translation": [1, 2]}', "max_iterations": "7", "tolerance": "1e-6", "flag": "true",
        "empty": "", "nan": "NaN", "mu": "μ", "twice": "a,b",
    }  # fmt: skip
    assert post(data=texts, files={"target": ("t.csv", b"1,2")}) | {"target": None} == {
        "source": [[0, 1.5], [2, 3]], "transform": "rigid", "matching": "one_to_one", "sigma": 0.1,
        "prior": None, "init": {"translation": [1, 2]}, "max_iterations": 7, "tolerance": 1e-6, "flag": True,
        "empty": "", "nan": "NaN", "mu": "μ", "twice": "a,b", "target": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "include",
    [
        ["registered", "trace"],
        ["registered,trace"],
        ["registered , trace"],
        ['["registered", "trace"]'],
        ['["registered"]', "trace"],
    ],
)
def test_include_is_repeated_or_listed(post: Post, include: list[str]) -> None:
    fields = post(files=[("include", (None, item)) for item in include])
    assert fields == {"include": ["registered", "trace"]}


def test_large_files_and_texts_arrive_whole(post: Post) -> None:
    points = np.random.default_rng(0).normal(size=(100_000, 3))
    text = write_cloud(points[:20_000], "csv").replace(b"x,y,z\n", b"[[").strip().replace(b"\n", b"],[") + b"]]"
    assert len(text) > 2**20
    file = write_cloud(points, "npy")
    fields = post(files={"source": ("a.npy", file), "target": (None, text)})
    assert np.array_equal(fields["source"], points)
    assert np.array_equal(fields["target"], points[:20_000])


def test_a_file_of_json_is_a_cloud_and_in_other_fields_files_are_texts(post: Post) -> None:
    fields = post(
        files={
            "source": ("a.json", b" [[1, 2]]"),
            "init": ("init.json", b'{"translation": [1]}\n'),
            "transform": ("t", b"rigid\n"),
            "other": ("x.bin", b"\xff\xfe\0"),
        }
    )
    assert fields.pop("other").endswith("\0")
    assert fields == {"source": [[1, 2]], "init": {"translation": [1]}, "transform": "rigid"}


def test_errors_in_files_point_at_their_fields(post: Post) -> None:
    good = ("a.csv", b"1,2\n")
    with pytest.raises(MalformedBody, match="line 2") as malformed:
        post(files={"source": good, "target": ("b.csv", b"1,2\n3,x\n")})
    assert malformed.value.pointer == "/target"
    with pytest.raises(InvalidInput, match="empty") as invalid:
        post(files={"source": ("a.ply", b""), "target": good})
    assert invalid.value.pointer == "/source"
    with pytest.raises(MalformedBody, match="begins as JSON") as malformed:
        post(files={"in/it~": (None, '{"translation": [1}')})
    assert malformed.value.pointer == "/in~1it~0"


def test_a_key_that_occurs_twice_in_a_text_is_refused_as_in_a_body(post: Post) -> None:
    for name, text, pointer in (
        ("init", '{"scale": 1, "scale": 2}', "/init/scale"),
        ("init", '{"a": {"b": 1, "c": [], "b": 2}}', "/init/a/b"),
        ("source", '[{"x": 1, "x": 2}]', "/source/0/x"),
    ):
        for part in ((None, text), ("a.json", text)):
            with pytest.raises(MalformedBody, match="more than once") as caught:
                post(files={name: part})
            assert caught.value.pointer == pointer


def test_texts_and_files_of_json_may_begin_with_a_byte_order_mark(post: Post) -> None:
    mark = "\ufeff".encode()
    fields = post(files={"source": ("a.json", mark + b"[[1, 2]]"), "init": (None, mark + b'{"scale": 1}')})
    assert fields == {"source": [[1, 2]], "init": {"scale": 1}}


def test_a_file_of_a_whole_request_is_refused_with_the_cure(post: Post) -> None:
    with pytest.raises(InvalidInput, match="as the body") as caught:
        post(files={"source": ("a.json", b'\xef\xbb\xbf{"source": [[1, 2]], "target": [[1, 2]]}')})
    assert caught.value.pointer == "/source"


def test_a_field_is_given_once(post: Post) -> None:
    file = ("a.csv", b"1,2\n")
    for parts in ([("source", file), ("source", file)], [("sigma", (None, "1")), ("sigma", (None, "2"))]):
        with pytest.raises(InvalidInput, match="given 2 times"):
            post(files=parts)


def test_clouds_and_texts_have_their_bounds(post: Post) -> None:
    with pytest.raises(BodyTooLarge):
        post(files={"source": ("a.npy", write_cloud(np.zeros((1_000_001, 1)), "npy"))})
    with pytest.raises(BodyTooLarge):
        post(files={"source": (None, b"[" + b"0," * 1_000_001 + b"0]")})


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="sigma"\r\n\r\n1'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="sigma"\r\n\r\n1\r\n--x'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x; charset=undefined",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        ),
    ],
)
def test_forms_that_break_their_grammar_are_malformed(post: Post, content_type: str, content: bytes) -> None:
    with pytest.raises(MalformedBody):
        post(content=content, headers={"content-type": content_type})


def test_surrogates_of_a_strange_charset_do_not_survive(post: Post) -> None:
    content = b'--x\r\nContent-Disposition: form-data; name="\\ud800"\r\n\r\n\\ud800\r\n--x--\r\n'
    fields = post(content=content, headers={"content-type": "multipart/form-data; boundary=x; charset=unicode_escape"})
    assert fields == {"?": "?"}


def test_texts_arrive_byte_for_byte_in_utf_8_and_decoded_from_other_charsets(post: Post) -> None:
    def form(text: bytes) -> bytes:
        return b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + text + b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert post(content=form("größe".encode()), headers=kind) == {"a": "größe"}
    assert post(content=form(b"gr\xf6"), headers=kind) == {"a": "gr\ufffd"}
    with pytest.raises(MalformedBody, match="UTF-8"):
        post(content=form(b'["gr\xf6"]'), headers=kind)
    latin = {"content-type": "multipart/form-data; boundary=x; charset=latin-1"}
    assert post(content=form(b"gr\xf6"), headers=latin) == {"a": "grö"}


def test_an_endless_number_of_parts_is_refused(post: Post) -> None:
    with pytest.raises(MalformedBody, match="Too many fields"):
        post(files=[(f"f{index}", (None, "1")) for index in range(100)])


def test_compressed_forms_are_not_read(post: Post) -> None:
    with pytest.raises(UnsupportedMediaType):
        post(files={"source": ("a", b"1")}, headers={"content-encoding": "gzip"})


def test_a_form_cut_anywhere_is_malformed_and_no_part_of_it_is_used() -> None:
    whole = (
        b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n1 2\r\n'
        b'--x\r\nContent-Disposition: form-data; name="sigma"\r\n\r\n1\r\n--x--'
    )

    async def read(body: bytes) -> Form:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(messages)

        scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}
        return await read_form(Request(scope, receive), max_elements=9)

    async def run() -> None:
        assert set((await read(whole)).fields) == {"source", "sigma"}
        for length in range(len(whole)):
            with pytest.raises(MalformedBody):
                await read(whole[:length])

    asyncio.run(run())


@pytest.mark.parametrize("columns", ["b,a", "2,1", '["b", "a"]', "[2, 1]", " B , 1 "])
def test_columns_choose_those_of_both_files_or_of_one(read: Post, columns: str) -> None:
    file = ("a.csv", b"id,a,b\n7,1,2\n")
    answer = read(files={"source": file, "target": file}, data={"columns": columns, "target_columns": "a"})
    assert list(answer["fields"]) == ["source", "target"]
    assert answer["fields"]["source"].tolist() == [[2, 1]]
    assert answer["fields"]["target"].tolist() == [[1]]


@pytest.mark.parametrize(
    "data",
    [
        {"source_columns": "x"},
        {"source_columns": "true"},
        {"source_columns": "1.5"},
        {"source_columns": "[]"},
        {"source_columns": "null"},
        {"target_columns": "0"},
    ],
)
def test_columns_that_cannot_be_chosen_are_refused(read: Post, data: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(files={"source": ("a.csv", b"a,b\n1,2\n"), "target": (None, "[[1]]")}, data=data)
    assert caught.value.pointer == f"/{next(iter(data))}"


def test_warnings_name_the_file(read: Post) -> None:
    coloured, plain = ("a.xyz", b"0.5 1 2 207 21 45\n"), ("b.xyz", b"0.5 1 2\n")
    answer = read(files={"source": coloured, "target": plain})
    assert [warning.partition(": ")[0] for warning in answer["warnings"]] == ["source"]
