"""One process of a group, or the only one: trains every objective and saves what it computed.

`python -m tests.pretrain.group_worker OUT`, with the environment that torchrun sets.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from reaas_pretrain.group import torchrun_group
from reaas_pretrain.recipe import Recipe
from reaas_pretrain.train import Trainer

from tests.pretrain.recipes import random_images, tiny_recipe

RECIPES: dict[str, Recipe] = {
    "momentum": tiny_recipe(schedule={"epochs": 2}),
    "end-to-end": tiny_recipe(
        contrast={"mechanism": "end-to-end", "similarity": "distance"}, schedule={"epochs": 2}
    ),
    "rocl": tiny_recipe(
        objective="rocl", attack={"norm": "l2", "epsilon": 0.3}, schedule={"epochs": 2}
    ),
    "supervised": tiny_recipe(objective="supervised", schedule={"epochs": 2}),
}


def main(out: Path) -> None:
    """Saves losses, the last gradients and the state of every recipe (first process only)."""
    torch.set_num_threads(1)
    data, results = random_images(24), dict[str, Any]()
    with torchrun_group(torch.device("cpu")) as group:
        for name, recipe in RECIPES.items():
            with tempfile.TemporaryDirectory() as directory:
                trainer = Trainer(
                    recipe, data.images, Path(directory), labels=data.labels, group=group
                )
                views, labels = trainer.draw(next(trainer.batches()))
                step = trainer.learner.step(views, labels, rate=0.05)
                gradients = [p.grad.clone() for p in trainer.learner.trained if p.grad is not None]
                trainer.run()
            results[name] = {
                "first": list(step),
                "gradients": gradients,
                "losses": [row["loss"] for row in trainer.history],
                "state": trainer.learner.objective.state_dict(),
            }
        if group.rank == 0:
            torch.save(results, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
