"""What is imported late is imported once, before any process is forked."""

from __future__ import annotations

import pytest

from equikernels.models.engine import train
from tests.models.engine.samples import configured, digits


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    train(configured(epochs=1, batch_size=300), tmp_path_factory.mktemp("warm"), dataset=digits())
