"""Settings of the F2I service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict
from reaas_runtime import ServiceSettings
from reaas_runtime.settings import Port


class F2ISettings(ServiceSettings):
    """REaaS F2IPerturb-API: image-space certified radii of inputs."""

    model_config = SettingsConfigDict(cli_prog_name="reaas-f2i")

    port: Port = 50052
    """Port to listen on; 0 lets the system choose. Beside the encoder's 50051."""
    metrics_port: Port = 9465
    """Port of the Prometheus endpoint. Beside the encoder's 9464."""
    max_pending_inputs: PositiveInt = 2048
    """Most inputs waiting or in work. Bounds take longer than features, so fewer may queue."""
    default_deadline_s: PositiveFloat = 120.0
    """Longest time for a message where the client sets no deadline: 64 CROWN queries on 2 cores."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]+)?)$")] = "cpu"
    """Where bounds are computed: cpu, cuda or cuda:N. Images of small encoders are too little work
    for a GPU; every image is worked on alone, so that its answer does not depend on its batch."""
    search_steps: PositiveInt = 20
    """Bisection steps where the client names none: enough to narrow any bracket to 1e-3."""
    max_search_steps: PositiveInt = 60
    """Most steps that a client may ask for: beyond, float64 has nothing left to halve."""
    search_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Relative width of the bracket where the client names none. What is left is below what bounds
    lose anyway, and each halving costs a full evaluation."""
    margin_steps: PositiveInt = 60
    """Envelopes for a query of margins where the client names no number: about four for each row
    that competes for the smallest radius, and rarely more than three rows do."""
    max_margin_rows: Annotated[int, Field(ge=1, le=4096)] = 512
    """Most margins in one set: enough for 500 classes. By CROWN each takes memory as large as the
    largest layer, all at once: about 200 MB a worker for 512 of them and the shipped encoders."""
    max_margin_sets: Annotated[int, Field(ge=1, le=256)] = 16
    """Most sets of margins of one input: clients need about six balls, and bytes grow with each."""
    queries_per_job: PositiveInt = 8
    """Queries that one worker bounds together by intervals: enough to fill its vector units, few
    enough that the workers share a batch. Searches are one query a job: clients take turns."""
    max_input_shapes: PositiveInt = 32
    """Image sizes whose constants are remembered for each model, beside its own; of the client with
    most of them the least used goes first."""
    memory_budget_bytes: NonNegativeInt = 0
    """Most bytes that bounds may take side by side, as estimated; 0: half of what the cgroup grants
    (or the machine has). The other half is for models, constants, messages and the allocator."""
