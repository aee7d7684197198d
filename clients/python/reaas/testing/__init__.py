"""A fake REaaS server for the tests of programs that use `reaas`.

    from reaas.testing import FakeModel, FakeServer

    with FakeServer() as server, reaas.Client(server.address, server.address) as client:
        features = client.encode(images, server.model.name)

It speaks the real contract over a real socket, with typed errors and metering. Its encoders are
linear, f(x) = W x, so that every feature and every certified radius is known in closed form. Make
it fail with `server.fail_next("QUEUE_FULL", retry_after_s=0.1)`, or lie with `server.tamper`.
"""

from reaas.testing._model import FakeModel
from reaas.testing._server import FakeServer

__all__ = ["FakeModel", "FakeServer"]
