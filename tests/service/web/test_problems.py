"""Problems as such, without an endpoint."""

from __future__ import annotations

import pytest

from service.web.problems import problem_object, responses


@pytest.mark.parametrize(
    ("status", "title"), [(404, "Not Found"), (413, "Request Entity Too Large"), (422, "Unprocessable Entity")]
)
def test_a_status_has_one_title_under_every_version_of_python(status: int, title: str) -> None:
    assert problem_object(status, "slug", "detail")["title"] == title
    assert responses(status)[status]["description"] == title
