"""Text tables, and the medians in them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from benchmarks.serving.figures import Sample


def grid(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns, the first flush left."""
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def median(samples: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    """The median of a figure over the rounds; NaN without rounds."""
    values = [figure(sample) for sample in samples]
    return statistics.median(values) if values else math.nan


def latency(samples: Sequence[Sample], share: float) -> float:
    """The median over the rounds of the time within which `share` of the requests were answered."""
    return median(samples, lambda sample: sample.latency(share))


def milliseconds(seconds: float) -> str:
    """Three digits; a dash for what was not measured, and "none" for what was not answered."""
    if math.isnan(seconds):
        return "-"
    return "none" if math.isinf(seconds) else f"{seconds * 1e3:#.3g}".rstrip(".")


def microseconds(seconds: float) -> str:
    """Whole microseconds."""
    return "-" if math.isnan(seconds) else f"{seconds * 1e6:.0f}"


def claim(what: str, value: float, least: float = -math.inf, most: float = math.inf) -> str:
    """One line for a requirement: the figure, the bound, and whether the bound holds."""
    bound = f">= {least:g}" if math.isfinite(least) else f"<= {most:g}"
    return f"{what:<64} {value:>8.2f}  {bound:<8}  {'yes' if least <= value <= most else 'NO'}"


COLUMNS = ["req/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "server µs", "client µs", "errors"]


def closed_cells(samples: Sequence[Sample]) -> list[str]:
    """The cells of COLUMNS: medians over rounds. The processor time is that of one request."""
    if not samples:
        return ["-"] * len(COLUMNS)
    return [
        f"{median(samples, lambda sample: sample.rate):,.0f}",
        *(milliseconds(latency(samples, share)) for share in SHARES),
        microseconds(median(samples, lambda sample: sample.server_seconds / max(sample.requests, 1))),
        microseconds(median(samples, lambda sample: sample.client_seconds / max(sample.requests, 1))),
        str(sum(sample.errors for sample in samples)),
    ]


SHARES = (0.5, 0.99, 0.999, 1.0)
