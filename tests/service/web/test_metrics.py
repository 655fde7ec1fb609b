"""The exposition of metrics: its formats and its exemplars."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient

from service.web.metrics import Metrics, exposition

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def test_both_formats_have_the_same_values() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/livez", 200, 0.002, "first")
    metrics.engine("vae").dispatched([0.5, 0.25])
    snapshots = [metrics.snapshot(), metrics.snapshot()]
    plain, openmetrics = (
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parse(exposition(snapshots, accept)[0].decode())
            for sample in family.samples
        }
        for parse, accept in ((parse_text, "text/plain"), (parse_openmetrics, OPENMETRICS))
    )
    assert plain == openmetrics
    assert plain["latentserve_requests_total", ("method", "GET"), ("route", "/livez"), ("status", "200")] == 2
    assert plain["latentserve_batch_size_sum", ("engine", "vae")] == 4


def test_openmetrics_has_the_newest_request_of_a_bucket_as_its_exemplar(client: TestClient) -> None:
    for name in ("earlier", "later"):
        client.get("/vae/encoder-size?dimension=3", headers={"X-Request-Id": name})
    answer = client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    found = [
        sample.exemplar
        for family in parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.name == "latentserve_request_seconds_bucket" and sample.labels["route"] == "/vae/encoder-size"
    ]
    named = [exemplar.labels["request_id"] for exemplar in found if exemplar is not None]
    assert "later" in named
    assert "later" not in client.get("/metrics").text
