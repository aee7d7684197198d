"""Write the dashboards' JSON, or check that the committed files are current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.dashboards.certification import certification_dashboard
from scripts.dashboards.cost import cost_dashboard
from scripts.dashboards.health import health_dashboard

TARGET = Path(__file__).resolve().parents[2] / "deploy/observability/grafana/dashboards"
DASHBOARDS = {
    "cost.json": cost_dashboard,
    "health.json": health_dashboard,
    "certification.json": certification_dashboard,
}


def rendered() -> dict[str, str]:
    """File name -> JSON of every dashboard."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {name: encoder.encode(make().build()) + "\n" for name, make in DASHBOARDS.items()}


def main() -> int:
    """0: written, or current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if not current")
    checking = parser.parse_args().check
    stale = []
    for name, text in rendered().items():
        path = TARGET / name
        if checking:
            if not path.is_file() or path.read_text() != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(f"not current: {', '.join(stale)}; run `make dashboards`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
