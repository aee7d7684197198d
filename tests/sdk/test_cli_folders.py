"""Folders of photos through the command line: paid once, resumed, told apart, shown."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import reaas
import trustme
from click.testing import CliRunner, Result
from PIL import Image
from reaas.certify import DownstreamClassifier, SmoothingConfig
from reaas.cli._app import app
from reaas.schemes import ReaasScheme
from reaas.testing import FakeModel, FakeServer

Run = Callable[..., Result]
CLASSES = {"cat": 60, "dog & <b>": 190}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Two encoders whose features are of one length."""
    with FakeServer([FakeModel(), FakeModel(name="other", seed=5)]) as running:
        yield running


@pytest.fixture
def run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the fake server."""
    for name in ("REAAS_API_KEY", "REAAS_ENCODER", "REAAS_F2I"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: object) -> Result:
        where = ["--encoder", server.address, "--f2i", server.address, "--retry-for", "0"]
        return CliRunner().invoke(app, [*where, *map(str, arguments)])

    return invoke


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 photos a class, larger than the encoder's own size, and one that is broken."""
    random = np.random.default_rng(0)
    for name, base in CLASSES.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.normal(base, 30, (6, 9, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i:02}.png")
    (tmp_path / "photos" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "photos"


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A linear head of the fake model's features, with names."""
    model, path = FakeModel(), tmp_path / "head.npz"
    bright = model.encode(np.ones((1, *model.shape)))[0].astype(np.float64)  # [d]
    bias = 0.5 * float(bright @ bright)
    DownstreamClassifier(
        (np.stack([-bright, bright]),),
        (np.array([bias, -bias]),),
        class_names=tuple(CLASSES),
        encoder=str(model.ref),
    ).save(path)
    return path


def _lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _certify(photos: Path, head: Path, *extra: object) -> tuple[object, ...]:
    return ("certify", photos, "--model", "fake", "--classifier", head, "--resize", *extra)


def test_a_head_is_trained_from_class_folders_with_a_held_out_score(
    run: Run, server: FakeServer, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    (photos / "loose.png").write_bytes((photos / "cat" / "00.png").read_bytes())
    arguments = ("train-head", photos, "--model", "fake", "--out", tmp_path / "h.npz", "--resize")
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (row,) = found["results"]
    assert (row["images"], row["classes"], row["held_out_images"]) == (40, 2, 8)
    assert row["held_out_accuracy"] == 1.0
    shares = list(found["held_out"]["certified_accuracy"].values())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert found["skipped"][str(photos / "loose.png")] == "lies in no class folder"
    assert "broken.jpg is no readable image" in result.stderr
    head = DownstreamClassifier.load(tmp_path / "h.npz")
    assert head.class_names == tuple(sorted(CLASSES))
    assert head.encoder == str(server.model.ref)
    assert head.resize == "centre, antialiased bilinear to 4x4"
    assert server.meter.totals(phase="train").queries == 40
    # Another training of the same photos: nothing is paid.
    assert run(*arguments, "--objective", "plain").exit_code == 0
    assert server.meter.totals().queries == 40


def test_training_goes_on_where_it_failed(
    run: Run, server: FakeServer, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    answered = iter(range(2))

    def tamper(reply: Any) -> Any:
        if next(answered, None) == 1:
            server.fail_next("INTERNAL")
        return reply

    for i in range(40):  # Three messages of 32.
        pixels = np.full((4, 4, 3), i, np.uint8)
        Image.fromarray(pixels).save(photos / "cat" / f"more{i}.png")
    server.tamper = tamper
    arguments = ("train-head", photos, "--model", "fake", "--out", tmp_path / "h.npz", "--resize")
    assert run(*arguments).exit_code == 6
    paid = server.meter.totals().queries
    assert 0 < paid < 80
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert f"{paid} features are paid already" in result.stderr
    assert server.meter.totals().queries == 80


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a"] * 20, ("a", "b")),
        ([30, 10] * 20, ("10", "30")),
        ([False, True] * 20, ("False", "True")),
        ([2.0, -1.0] * 20, ("-1", "2")),
        ([b"y", b"x"] * 20, ("x", "y")),
    ],
)
def test_labels_may_be_of_any_type(
    run: Run, tmp_path: Path, labels: list[Any], names: tuple[str, ...]
) -> None:
    pytest.importorskip("torch")
    random = np.random.default_rng(1)
    features = random.normal(size=(40, 8)).astype(np.float32)
    np.savez(tmp_path / "f.npz", features=features, labels=labels)
    arguments = ("train-head", tmp_path / "f.npz", "--out", tmp_path / "h.npz")
    assert "does not say which encoder" in run(*arguments).stderr
    result = run(*arguments, "--model", "fake")
    assert result.exit_code == 0, result.output
    assert DownstreamClassifier.load(tmp_path / "h.npz").class_names == names


def test_features_from_encode_are_training_data(
    run: Run, server: FakeServer, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "f.npz"
    assert run("encode", photos, "--model", "fake", "--out", out, "--resize").exit_code == 0
    assert not out.with_name("f.npz.features").exists()
    result = run("--json", "train-head", out, "--out", tmp_path / "h.npz")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["held_out"]["certified_accuracy"]["0.05"] > 0
    assert server.meter.totals().queries == 40
    wrong = run("train-head", out, "--out", tmp_path / "h.npz", "--model", "other")
    assert wrong.exit_code == 4
    assert "has features of fake@1@" in wrong.stderr


def test_a_head_of_another_encoder_is_refused_before_anything_is_paid(
    run: Run, server: FakeServer, photos: Path, head: Path
) -> None:
    result = run("certify", photos, "--model", "other", "--classifier", head, "--resize")
    assert result.exit_code == 4
    assert "trained on features of fake@1@sha256" in result.stderr
    assert server.meter.totals().queries == 0


def test_certificates_are_written_resumed_and_shown(
    run: Run, server: FakeServer, photos: Path, head: Path, tmp_path: Path
) -> None:
    out, page = tmp_path / "deep" / "out.csv", tmp_path / "out.html"
    result = run(*_certify(photos, head, "--csv", out, "--report", page))
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert line.startswith("40 of 40 images certified by fake@1")
    assert "100.0% right" in line
    assert "80 queries paid, 1 files skipped; R of the resized pixels" in line
    assert "broken.jpg" in result.stderr
    rows = _lines(out)
    assert len(rows) == 40
    for row in rows:
        assert row["image"].startswith(str(photos))
        assert row["class"] == row["label"] == Path(row["image"]).parent.name
        assert float(row["radius"]) > 0
        assert row["resize"] == "centre, antialiased bilinear to 4x4"
        assert row["encoder"] == str(server.model.ref)
    text = page.read_text("utf-8")
    assert text.count("data:image/png;base64,") == 40
    assert text.count("<svg") == 2
    assert "dog &amp; &lt;b&gt;" in text
    assert "dog & <b>" not in text
    assert "http" not in text  # Nothing to load.
    assert "broken.jpg" in text
    # Again: nothing is paid. Nor for a line that was cut off, but what it was of.
    assert run(*_certify(photos, head, "--csv", out)).exit_code == 0
    assert server.meter.totals().queries == 80
    out.write_bytes(out.read_bytes()[:-20])
    again = run(*_certify(photos, head, "--csv", out))
    assert "39 images are certified already" in again.stderr
    assert server.meter.totals().queries == 82
    assert sorted(row["image"] for row in _lines(out)) == sorted(row["image"] for row in rows)
    # Other pixels, another method: never mixed.
    other = run(*_certify(photos, head, "--csv", out, "--method", "ibp"))
    assert other.exit_code == 2
    assert "certificates of another encoder, classifier or method" in other.stderr


def test_a_failure_costs_no_image_twice(
    run: Run, server: FakeServer, photos: Path, head: Path, tmp_path: Path
) -> None:
    """Each message fails once: features of a step that then fails are kept as well."""
    out, runs = tmp_path / "out.csv", 0
    while True:
        answered = 0

        def tamper(reply: Any) -> Any:
            nonlocal answered
            answered += 1
            if answered == 1:
                server.fail_next("INTERNAL")
            return reply

        server.tamper = tamper
        result = run(*_certify(photos, head, "--csv", out))
        server._failures.clear()
        runs += 1
        if result.exit_code == 0:
            break
        assert result.exit_code == 6
        assert runs < 10
    assert runs > 3
    assert server.meter.totals().queries == 80
    assert len(_lines(out)) == 40
    assert not out.with_name("out.csv.features").exists()


def test_ctrl_c_keeps_what_is_paid(
    server: FakeServer, photos: Path, head: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    server.delay_s = 1.0
    where = ["--encoder", server.address, "--f2i", server.address]
    command = [
        sys.executable,
        "-m",
        "reaas",
        *where,
        *map(str, _certify(photos, head, "--csv", out)),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and server.meter.totals().queries == 0:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "the same command goes on from there" in errors
    paid = server.meter.totals().queries
    assert paid == 2 * len(_lines(out))
    server.delay_s = 0.0
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert server.meter.totals().queries == 80


def test_equal_names_of_two_folders_are_kept_apart(run: Run, head: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png", tmp_path / "b" / "2.png"]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 40 * i, np.uint8)).save(path)
    found = json.loads(
        run("--json", "certify", *paths, "--model", "fake", "--classifier", head).stdout
    )
    assert [row["image"] for row in found["results"]] == [str(paths[0]), str(paths[1]), "2.png"]


def test_a_file_named_itself_and_useless_makes_the_exit_code_2(
    run: Run, photos: Path, head: Path
) -> None:
    good, bad = photos / "cat" / "00.png", photos / "cat" / "broken.jpg"
    arguments = ("--model", "fake", "--classifier", head, "--resize")
    result = run("certify", bad, good, *arguments)
    assert result.exit_code == 2
    assert f"skipped: {bad} is no readable image" in result.stderr
    assert "00.png" in result.stdout


@pytest.mark.parametrize("option", ["--csv", "--report", "--out"])
def test_what_cannot_be_written_is_known_before_anything_is_paid(
    run: Run, server: FakeServer, photos: Path, head: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "out"
    if option == "--out":
        commands: list[tuple[object, ...]] = [
            ("encode", photos, "--model", "fake", "--resize", "--out", nowhere),
            ("train-head", photos, "--model", "fake", "--resize", "--out", nowhere),
        ]
    else:
        commands = [_certify(photos, head, option, nowhere)]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 2
        assert f"{option} {nowhere}: cannot be written" in result.stderr
    assert server.meter.totals().queries == 0


def test_a_file_that_is_no_list_of_certificates_stays(
    run: Run, photos: Path, head: Path, tmp_path: Path
) -> None:
    (tmp_path / "diary.csv").write_text("dear diary\n")
    result = run(*_certify(photos, head, "--csv", tmp_path / "diary.csv"))
    assert result.exit_code == 2
    assert "no list of certificates" in result.stderr
    assert (tmp_path / "diary.csv").read_text() == "dear diary\n"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("::1:50051", "[::1]:50051"),
        ("::1", "[::1]:PORT"),
        ("2001:db8::5:50051", "[2001:db8::5]:50051"),
        ("localhost", "localhost:PORT"),
        ("localhost:many", "Port could not be cast"),
    ],
)
def test_addresses_that_cannot_be_meant_are_explained(address: str, message: str) -> None:
    result = CliRunner().invoke(app, ["--encoder", address, "models"])
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("kind", ["ipv6", "unix", "ipv4", "dns"])
def test_every_kind_of_address_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    listens = {"ipv6": "[::1]:0", "unix": f"unix:{tmp_path}/s"}.get(kind, "127.0.0.1:0")
    monkeypatch.setattr(FakeServer, "address", listens)
    try:
        server = FakeServer()
        server.start()
    except RuntimeError:
        pytest.skip(f"this machine has no {listens}")
    port = server._port
    address = {
        "ipv6": f"[::1]:{port}",
        "unix": listens,
        "ipv4": f"ipv4:127.0.0.1:{port}",
        "dns": f"dns:///127.0.0.1:{port}",
    }[kind]
    result = CliRunner().invoke(app, ["--encoder", address, "models"])
    server.stop()
    assert result.exit_code == 0, result.output


def test_plain_text_spoken_to_tls_is_called_by_its_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    ca = ["--ca", str(tmp_path / "ca.pem")]
    with FakeServer(credentials=credentials) as encrypted, FakeServer() as plain:
        for options, address, code, message in (
            ([], encrypted.address, 5, "this port speaks TLS: add --tls, and --ca FILE"),
            (ca, encrypted.address, 0, ""),
            (ca, plain.address, 5, "this port speaks no TLS: leave out --tls"),
        ):
            where = [*options, "--retry-for", "0", "--encoder", address, "models"]
            result = CliRunner().invoke(app, where)
            assert result.exit_code == code, result.output
            assert message in result.stderr


def test_the_scheme_refuses_a_head_of_another_encoder(server: FakeServer, head: Path) -> None:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    with reaas.Client(server.address, server.address) as client:
        scheme, loaded = ReaasScheme(client, "other"), DownstreamClassifier.load(head)
        with pytest.raises(reaas.DigestMismatchError, match="trained on features of fake@1"):
            scheme.certify_base(images, loaded)
        with pytest.raises(reaas.DigestMismatchError):
            scheme.certify_smoothed(images, loaded, SmoothingConfig(0.1, n=100), seed=1)
    assert server.meter.totals().queries == 0


def test_brackets_in_a_name_are_no_markup(run: Run, head: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "[red] x.png")
    found = run("certify", tmp_path / "[red] x.png", "--model", "fake", "--classifier", head)
    assert "[red] x.png" in found.stdout


def test_any_file_name_can_be_written(run: Run, head: Path, tmp_path: Path) -> None:
    names = [b"caf\xe9.png", b'a "b", <c>.png', b"new\nline.png", "日本.png".encode()]
    (tmp_path / "odd").mkdir()
    for i, name in enumerate(names):
        with open(os.path.join(os.fsencode(tmp_path / "odd"), name), "wb") as file:
            Image.fromarray(np.full((4, 4, 3), 50 * i, np.uint8)).save(file, "PNG")
    out, page = tmp_path / "out.csv", tmp_path / "out.html"
    arguments = _certify(tmp_path / "odd", head, "--csv", out, "--report", page)
    assert run(*arguments).exit_code == 0
    written = {Path(row["image"]).name for row in _lines(out)}
    assert written == {"caf\\xe9.png", 'a "b", <c>.png', "new\nline.png", "日本.png"}
    assert "&lt;c&gt;" in page.read_text("utf-8")
    assert "4 images are certified already" in run(*arguments).stderr


def test_images_are_composed_and_first_frames_taken_if_asked(
    run: Run, server: FakeServer, head: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd").mkdir()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "odd" / "clear.png")
    frames = [Image.new("RGB", (4, 4), c) for c in ("black", "white")]
    frames[0].save(tmp_path / "odd" / "film.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 300)).save(tmp_path / "odd" / "panorama.png")
    arguments = ("certify", tmp_path / "odd", "--model", "fake", "--classifier", head)
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert server.meter.totals().queries == 0
    for reason in ("clear.png has transparent", "film.gif has 2 frames", "panorama.png is 300 x 1"):
        assert reason in refused.stderr
    asked = ("--background", "white", "--first-frame", "--resize", "4x4")
    found = json.loads(run("--json", *arguments, *asked).stdout)
    assert [row["class"] for row in found["results"]] == ["dog & <b>", "cat", "cat"]
    for wrong in (("--background", "#12"), ("--resize", "0"), ("--resize", "3x4x5")):
        assert run(*arguments, *wrong).exit_code == 2
