"""What users may rely on: the names, and that both clients are one."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import reaas
import reaas.testing


def test_exported_names_are_pinned() -> None:
    assert reaas.__all__ == sorted(reaas.__all__, key=lambda name: (not name.isupper(), name))
    assert set(reaas.__all__) == {
        "TLS", "AsyncClient", "CertifiedConstants", "ChannelOptions", "Client",
        "DeadlineExceededError", "DigestMismatchError", "Features", "InputSpec",
        "InvalidArgumentError", "Ledger", "LedgerKey", "Limits", "Method", "ModelInfo",
        "ModelNotFoundError", "ModelRef", "ModelUnusableError", "OverloadedError", "Phase",
        "ProtocolError", "Radii", "ReaasError", "ResizeSpec", "Scheme", "ServerError", "Service",
        "ServiceInfo", "ServiceUnavailableError", "UnauthenticatedError", "Usage",
    }  # fmt: skip
    assert set(reaas.testing.__all__) == {"FakeModel", "FakeServer"}


def test_every_public_error_is_in_the_tree_that_the_module_draws() -> None:
    import reaas._errors as errors

    for name in reaas.__all__:
        value = getattr(reaas, name)
        if inspect.isclass(value) and issubclass(value, Exception):
            assert issubclass(value, reaas.ReaasError)
            assert name in (errors.__doc__ or "")


def _interface(client: type) -> dict[str, list[tuple[Any, ...]]]:
    """Each public member with its parameters: name, kind, default."""
    members = {}
    for name, member in inspect.getmembers(client):
        if name == "__init__" or not name.startswith("_"):
            function: Any = member.fget if isinstance(member, property) else member
            parameters = inspect.signature(function).parameters.values()
            members[name] = [(p.name, p.kind, p.default) for p in parameters]
    return members


def test_both_clients_have_the_same_methods_and_signatures() -> None:
    assert _interface(reaas.Client) == _interface(reaas.AsyncClient)


def test_import_needs_neither_torch_nor_onnx_nor_the_cli() -> None:
    code = (
        "import sys, reaas, reaas.certify; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'click', 'rich', 'PIL', 'matplotlib'}; "
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
