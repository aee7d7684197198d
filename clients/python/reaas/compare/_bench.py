"""What every row of a comparison runs on: data, services, meters, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress

from reaas import Client, ModelRef, Usage
from reaas.compare._config import CompareConfig
from reaas.compare._meters import Account, Meters
from reaas.datasets import Dataset

Connect = Callable[[str], Client]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Cost:
    """Queries and bytes for each input, as the services metered them."""

    queries_per_training_input: float
    queries_per_testing_input: float
    bytes_per_training_input: float
    bytes_per_testing_input: float


@dataclass(frozen=True)
class RowClient:
    """A row's own client, whose account begins empty."""

    name: str
    client: Client
    client_id: str
    meters: Meters
    before: Account

    def account(self) -> Account:
        """What the services metered for this row, equal to the client's ledger or an error."""
        return self.meters.reconcile(self.client.ledger, self.client_id, self.before)

    def cost(self, *, train_inputs: int, test_inputs: int) -> Cost:
        """The account, for each training and testing input."""
        account = self.account()
        train, test = (
            sum((usage for key, usage in account.items() if key.phase == phase), Usage())
            for phase in ("train", "test")
        )
        return Cost(
            _per_input(train.queries, train_inputs),
            _per_input(test.queries, test_inputs),
            _per_input(train.total_bytes, train_inputs),
            _per_input(test.total_bytes, test_inputs),
        )


@dataclass(frozen=True)
class Bench:
    """Data, services, meters and progress display of one comparison."""

    config: CompareConfig
    data: Dataset
    connect: Connect
    meters: Meters
    progress: Progress
    encoder: ModelRef

    @property
    def train_inputs(self) -> int:
        """Number of training inputs."""
        return len(self.data.train_labels)

    @property
    def test_inputs(self) -> int:
        """Number of testing inputs."""
        return len(self.data.test_labels)

    @contextmanager
    def client(self, name: str) -> Iterator[RowClient]:
        """A client of its own for the row `name`; `connect` gets the name as a client id."""
        with self.connect(client_name(name)) as client:
            client_id = client.info("encoder").client_id
            before = self.meters.read(client_id)
            yield RowClient(name, client, client_id, self.meters, before)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """A line of the progress display; yields what counts it forward."""
        task = self.progress.add_task(description, total=total)
        yield lambda count: self.progress.advance(task, count)


def client_name(row: str) -> str:
    """Client id of a row: `reaas/BC/CROWN` is metered as `reaas-bc-crown`."""
    return row.lower().replace("/", "-")


def _per_input(count: int, inputs: int) -> float:
    """`count / inputs`, a whole number where it is one (queries are exact, not averages)."""
    return count // inputs if count % inputs == 0 else count / inputs
