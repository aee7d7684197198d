"""Pre-training runs: make, follow, cancel and publish them. Needs a key with the role "operator".

from reaas.runs import RunsClient

with RunsClient("127.0.0.1:50053", api_key=key) as client:
    run = client.create("moco-sn", epochs=40)
    for event in client.watch(run.id):
        ...                                    # Run, RunProgress or RunOutput
    model = client.publish(run.id).published   # served by the encoder and F2I services
"""

from reaas.runs._client import RunsClient
from reaas.runs._model import (
    Event,
    Recipe,
    Recipes,
    Run,
    RunError,
    RunOutput,
    RunProgress,
    RunState,
)

__all__ = [
    "Event",
    "Recipe",
    "Recipes",
    "Run",
    "RunError",
    "RunOutput",
    "RunProgress",
    "RunState",
    "RunsClient",
]
