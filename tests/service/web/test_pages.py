"""The pages that display the OpenAPI document, and what a browser may load for them."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from starlette.responses import Response

from service.web import pages

PAGES = pytest.mark.parametrize("page", [pages.swagger("/openapi.json"), pages.redoc("/openapi.json")])


def directives(page: Response) -> dict[str, list[str]]:
    """The policy of a page."""
    parts = [part.split() for part in page.headers["content-security-policy"].split(";")]
    return {name: values for name, *values in parts}


@PAGES
def test_the_policy_allows_the_scripts_of_the_page_and_no_other(page: Response) -> None:
    html = bytes(page.body).decode()
    allowed = set()
    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL):
        source = re.search(r'src="([^"]+)"', attributes)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed.add(source[1] if source else f"'sha256-{digest}'")
    assert set(directives(page)["script-src"]) == allowed
    assert len(allowed) == 2
    assert directives(page)["default-src"] == ["'none'"]


@PAGES
def test_what_comes_from_elsewhere_has_an_exact_version_and_a_digest(page: Response) -> None:
    html = bytes(page.body).decode()
    for tag in re.findall(r"<[^>]*https:[^>]*>", html):
        assert re.search(r"@\d+\.\d+\.\d+/", tag), tag
        digest = re.search(r'integrity="sha384-([^"]+)" crossorigin', tag)
        assert digest, tag
        assert len(base64.b64decode(digest[1])) == 48
    assert html.count("https:") == len(re.findall(r'(?:src|href)="https:', html)) > 0


def test_the_path_of_the_document_cannot_end_the_script() -> None:
    html = bytes(pages.swagger('/</script><script>alert(1)"').body).decode()
    assert html.count("<script") == html.count("</script>") == 2
