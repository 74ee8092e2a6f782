"""docs/operations.md explains the metrics there are, and no others."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
METRIC = re.compile(r'\b(?:Counter|Gauge|Histogram)\(\s*"(\w+)"')


def test_every_metric_is_explained() -> None:
    there_are = {
        name
        for folder in ("libs", "services")
        for path in (ROOT / folder).rglob("*.py")
        for name in METRIC.findall(path.read_text())
    }

    section = re.search(
        r"^## Metrics$(.+?)^## ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE | re.DOTALL
    )

    assert section
    assert set(re.findall(r"^\| `(\w+)`", section[1], re.MULTILINE)) == there_are
