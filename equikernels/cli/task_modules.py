"""Where the tasks are: a module `tasks` in every package of models, and what other packages announce."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil

from equikernels import models

__all__ = ["load_tasks"]

ENTRY_POINTS = "equikernels.tasks"


def load_tasks() -> None:
    """Register every task: those of equikernels.models, and those of other distributions.

    A distribution announces a module that registers its tasks as an entry point of the group
    equikernels.tasks.
    """
    for package in pkgutil.iter_modules(models.__path__, "equikernels.models."):
        name = f"{package.name}.tasks"
        if package.ispkg and importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()
