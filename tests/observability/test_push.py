"""Reports of ACR and accuracy, as a Pushgateway gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from reaas.cli._app import app
from reaas.compare import PushError, Quality, push
from reaas.testing import FakeModel, FakeServer

Requests = list[tuple[str, str, str]]


@contextmanager
def gateway() -> Iterator[tuple[str, Requests]]:
    """Something that takes reports: its URL, and (method, path, text) of what it got."""
    got: Requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append(("PUT", self.path, text))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def test_a_report_replaces_that_of_the_same_client_and_model() -> None:
    with gateway() as (url, got):
        push(url, "phone", "tiny", [Quality("reaas", "BC/CROWN", 0.25, 0.75)])
    [(method, path, text)] = got
    assert (method, path) == ("PUT", "/metrics/job/reaas-reported/client/phone/model/tiny")
    labels = '{classifier="BC/CROWN",client="phone",model="tiny",scheme="reaas"}'
    assert f"reaas_reported_acr{labels} 0.25" in text
    assert f"reaas_reported_accuracy{labels} 0.75" in text


def test_a_gateway_that_is_not_there_is_named() -> None:
    with pytest.raises(PushError, match=r"127\.0\.0\.1:1"):
        push("http://127.0.0.1:1", "phone", "tiny", [Quality("reaas", "SC", 0.1, 0.5)])


@pytest.mark.parametrize("reported", [True, False])
def test_compare_reports_only_if_it_is_told_to(reported: bool, tmp_path: Path) -> None:
    small = ["--train", "60", "--test", "5", "--samples", "20", "--sigma", "0.25"]
    with FakeServer([FakeModel(shape=(8, 8, 1))]) as server, gateway() as (url, got):
        where = ["--encoder", server.address, "--f2i", server.address]
        arguments = ["compare", *small, "--model", "fake", "--out", str(tmp_path)]
        told = ["--push-gateway", url] if reported else []
        result = CliRunner().invoke(app, [*where, *arguments, *told])
    assert result.exit_code == 0, result.output
    assert len(got) == int(reported)
    assert not reported or 'classifier="BC/CROWN"' in got[0][2]
