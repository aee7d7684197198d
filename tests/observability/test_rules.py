"""Rules and configurations, by Prometheus' own tool; dashboards as they were generated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/observability/prometheus"


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("file", sorted(path.name for path in PROMETHEUS.glob("tests/*.yml")))
def test_rules_do_what_their_tests_say(prometheus_programs: None, file: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", f"tests/{file}")


@pytest.mark.parametrize("file", ["prometheus.yml", "prometheus-kubernetes.yml"])
def test_configurations_are_valid(prometheus_programs: None, file: str) -> None:
    # Debian builds Prometheus without Kubernetes discovery: syntax is all that it can check.
    config = yaml.safe_load((PROMETHEUS / file).read_text())
    if any("kubernetes_sd_configs" in job for job in config["scrape_configs"]):
        promtool("check", "rules", *(str(path) for path in PROMETHEUS.glob("rules/*.yml")))
    else:
        promtool("check", "config", file)


def test_every_alert_has_a_test() -> None:
    alerts = yaml.safe_load((PROMETHEUS / "rules/alerts.yml").read_text())["groups"][0]["rules"]
    tests = "".join(path.read_text() for path in PROMETHEUS.glob("tests/*.yml"))
    untested = [rule["alert"] for rule in alerts if f"alertname: {rule['alert']}" not in tests]
    assert not untested


def test_every_alert_is_in_the_operations_guide() -> None:
    alerts = yaml.safe_load((PROMETHEUS / "rules/alerts.yml").read_text())["groups"][0]["rules"]
    guide = (ROOT / "docs/operations.md").read_text()
    assert [rule["alert"] for rule in alerts if f"| `{rule['alert']}` |" not in guide] == []


@pytest.mark.parametrize("command", [["-m", "scripts.dashboards"], ["scripts/operator_rules.py"]])
def test_generated_files_are_current(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
