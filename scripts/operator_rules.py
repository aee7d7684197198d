"""Write the rules of Prometheus as the object that the Prometheus operator reads, or check it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
SOURCE = DEPLOY / "observability/prometheus/rules"
TARGET = DEPLOY / "k8s/components/prometheus-operator/rules.yaml"
HEADER = "# Made from deploy/observability/prometheus/rules by `make dashboards`: edit those.\n"


def rendered() -> str:
    """A PrometheusRule with the groups of all rule files."""
    groups = [
        group
        for file in sorted(SOURCE.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "reaas"},
        "spec": {"groups": groups},
    }
    return HEADER + yaml.safe_dump(rule, sort_keys=False, width=10_000)


def main() -> int:
    """0: written, or current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if not current")
    if not parser.parse_args().check:
        TARGET.write_text(rendered())
    elif not TARGET.is_file() or TARGET.read_text() != rendered():
        print(f"{TARGET.name} is not current; run `make dashboards`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
