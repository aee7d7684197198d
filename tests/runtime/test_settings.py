from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from reaas_encoder import EncoderServicer, EncoderSettings
from reaas_encoder.__main__ import main
from reaas_runtime import ServiceSettings
from reaas_runtime.settings import is_loopback


def test_plain_text_off_loopback_is_refused_unless_asked_for() -> None:
    with pytest.raises(ValidationError, match=r"0\.0\.0\.0.* is not loopback"):
        ServiceSettings(host="0.0.0.0", allow_anonymous=True)
    assert ServiceSettings(host="0.0.0.0", allow_anonymous=True, allow_plaintext=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("10.1.2.3", False),
        ("encoder.example", False),
    ],
)
def test_loopback_hosts(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_nobody_could_call_is_a_clear_error() -> None:
    with pytest.raises(ValidationError, match=r"api_keys_file.*or allow_anonymous"):
        ServiceSettings()


def test_tls_needs_certificate_and_key() -> None:
    with pytest.raises(ValidationError, match="tls, tls_cert and tls_key go together"):
        ServiceSettings(tls=True, allow_anonymous=True)


def test_a_full_batch_must_fit_the_queue() -> None:
    with pytest.raises(ValidationError, match="max_pending_inputs 10 is below"):
        ServiceSettings(allow_anonymous=True, max_pending_inputs=10)


def test_the_largest_message_must_fit_memory() -> None:
    with pytest.raises(ValidationError, match="max_pending_bytes 10 is below"):
        ServiceSettings(allow_anonymous=True, max_pending_bytes=10)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAAS_ALLOW_ANONYMOUS", "true")
    monkeypatch.setenv("REAAS_BATCH_SIZES", json.dumps([1, 4]))
    assert EncoderSettings().batch_sizes == (1, 4)


def test_settings_are_frozen() -> None:
    settings = ServiceSettings(allow_anonymous=True)
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "error: settings: Value error, no client could be let in"),
        (["--allow-anonymous", "--port", "70000"], "error: port: Input should be less than"),
        (["--allow-anonymous", "--models-dir", "no-such-place"], "is not a directory"),
        (["--api-keys-file", "no-such-file", "--models-dir", "."], "cannot be read"),
        (["--allow-anonymous", "--device", "cuda", "--models-dir", "."], "onnxruntime-gpu"),
    ],
)
def test_wrong_flags_are_one_readable_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in EncoderSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description, f"{name} has no docstring"


def test_servicer_is_typed_for_its_settings() -> None:
    assert EncoderServicer.descriptor.full_name == "reaas.v1.EncoderService"
