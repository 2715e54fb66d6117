"""Configurations: to TOML and back, mistakes in one line, and what may be registered."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equikernels.models.engine import (
    AutoencoderTask,
    ConfigurationError,
    OptimizerOptions,
    RunConfiguration,
    TrainingOptions,
    default_configuration,
    find_task,
    read_configuration,
    register_task,
    task_names,
)
from equikernels.models.engine.toml import from_table, to_toml
from tests.models.engine.samples import NoisyDigits


@dataclass(frozen=True)
class Inner:
    words: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)


@dataclass(frozen=True)
class Everything:
    flag: bool = False
    count: int = 0
    amount: float = 0.0
    text: str = ""
    choice: Literal["a", "b"] = "a"
    maybe: float | None = None
    inner: Inner = field(default_factory=Inner)
    last: str = "after the table, yet its own"


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
EVERYTHING = st.builds(
    Everything,
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    TEXT,
    st.sampled_from(["a", "b"]),
    st.none() | st.floats(allow_nan=False),
    st.builds(Inner, st.lists(TEXT).map(tuple), st.tuples(st.integers(), st.floats(allow_nan=False))),
    TEXT,
)


@given(EVERYTHING)
def test_a_configuration_comes_back_from_toml_exactly(configuration: Everything) -> None:
    again = from_table(Everything, tomllib.loads(to_toml(configuration)), "text")
    assert again == configuration
    assert math.copysign(1, again.amount) == math.copysign(1, configuration.amount)
    assert type(again.amount) is float


def test_a_run_comes_back_from_its_file(tmp_path: Path) -> None:
    whole = default_configuration("autoencoder")
    changed = dataclasses.replace(
        whole,
        seed=2**40,
        data='C:\\dirty "path"\n',
        data_options=("size=64",),
        model=dataclasses.replace(whole.model, hidden=(3, 4)),
        training=dataclasses.replace(whole.training, ema_decay=0.1 + 0.2, checkpoint_steps=7),
        optimizer=dataclasses.replace(whole.optimizer, learning_rate=1e-5),
    )
    path = tmp_path / "run.toml"
    path.write_text(to_toml(changed))
    assert read_configuration(path) == changed
    path.write_text("[training]\nepochs = 3\n")
    partly = read_configuration(path, "autoencoder")
    assert partly.training == dataclasses.replace(AutoencoderTask.training, epochs=3)
    assert partly.optimizer == AutoencoderTask.optimizer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", r"unknown key epochs: expected one of task, model, data"),
        ("[training]\nepoch = 3", r"unknown key training.epoch: did you mean training.epochs\?"),
        ("[training]\nepochs = 3.0", r"training.epochs: expected an integer, got 3.0"),
        ("[training]\nepochs = true", r"training.epochs: expected an integer, got True"),
        ("[training]\ncompile = 1", r"training.compile: expected true or false, got 1"),
        ("[training]\nema_decay = 'x'", r"training.ema_decay: expected a number, got 'x'"),
        (
            "[training]\nprecision = 'fp8'",
            r"training.precision: expected one of 'float32', 'bf16', 'fp16', got 'fp8'",
        ),
        ("[training]\nbatch_size = 0", r"training.batch_size: expected an integer >= 1, got 0"),
        ("[training]\ngradient_clip = 0", r"training.gradient_clip: expected a finite number > 0.0, got 0.0"),
        (
            "[training]\ngradient_clip = nan",
            r"training.gradient_clip: expected a finite number > 0.0, got nan",
        ),
        ("[training]\nema_decay = 1", r"training.ema_decay: expected a number in \[0, 1\), got 1.0"),
        ("[optimizer]\nbetas = [0.9]", r"optimizer.betas: expected an array of 2 values, got \[0.9\]"),
        ("[optimizer]\nbetas = 0.9", r"optimizer.betas: expected an array, got 0.9"),
        ("[optimizer]\nbetas = [0.9, 'x']", r"optimizer.betas\[1\]: expected a number, got 'x'"),
        (
            "[optimizer]\nbetas = [0.9, 1]",
            r"optimizer.betas: expected two numbers in \[0, 1\), got \(0.9, 1.0\)",
        ),
        (
            "[optimizer]\nlearning_rate = inf",
            r"optimizer.learning_rate: expected a finite number >= 0, got inf",
        ),
        ("[model]\nlatent = 0", r"model.latent: expected an integer >= 1, got 0"),
        ("model = 3", r"model: expected a table, got 3"),
        ("seed = -1", r"seed: expected an integer >= 0, got -1"),
        ("validation = 1", r"validation: expected a share in \(0, 1\), got 1.0"),
        ("data_options = ['size']", r"data_options: expected name=value, got 'size'"),
        ("task = 'other'", r"task is 'other', which is not the task 'autoencoder' asked for"),
        ("task = ", r"no TOML file: "),
    ],
)
def test_mistakes_name_the_file_and_the_key(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"run.toml: {message}") as caught:
        read_configuration(path, "autoencoder")
    assert "\n" not in str(caught.value)


def test_a_file_must_say_what_it_is_for(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 3")
    with pytest.raises(ConfigurationError, match=r"the key task is missing"):
        read_configuration(path)
    with pytest.raises(ConfigurationError, match=r"absent.toml: No such file"):
        read_configuration(tmp_path / "absent.toml")
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"run.toml: no TOML file"):
        read_configuration(path)


# -- tasks ---------------------------------------------------------------------------------------------------


def test_tasks_are_found_by_name_and_by_module() -> None:
    assert find_task("autoencoder") is AutoencoderTask
    assert "autoencoder" in task_names()
    assert find_task("tests.models.engine.samples:noisy-digits") is NoisyDigits
    with pytest.raises(ConfigurationError, match=r"no such task: did you mean autoencoder\?"):
        find_task("autoencodr")
    with pytest.raises(ConfigurationError, match=r"there is no module tests.models.nothing"):
        find_task("tests.models.nothing:autoencoder")
    with pytest.raises(ConfigurationError, match=r"there is no such task"):
        find_task("tests.models.engine.samples:autoencode-nothing")


def changed(**attributes: Any) -> type[NoisyDigits]:
    return type("Changed", (NoisyDigits,), {"name": "changed", **attributes})


def test_what_cannot_be_registered_is_refused() -> None:
    def options(**fields: Any) -> type:
        kinds = {name: (kind, dataclasses.field(default=value)) for name, (kind, value) in fields.items()}
        return dataclasses.make_dataclass("Options", [(n, k, f) for n, (k, f) in kinds.items()], frozen=True)

    with pytest.raises(ValueError, match=r"the name 'autoencoder' is taken by equikernels"):
        register_task(changed(name="autoencoder"))
    with pytest.raises(TypeError, match=r"options must be a dataclass"):
        register_task(changed(options=int))
    with pytest.raises(ValueError, match=r"the option epochs has a name that the engine uses"):
        register_task(changed(options=options(epochs=(int, 3))))
    with pytest.raises(TypeError, match=r"the option ceiling may be None, so None must be its default"):
        register_task(changed(options=options(ceiling=(float | None, 1.0))))
    with pytest.raises(TypeError, match=r"a configuration cannot"):
        register_task(changed(options=options(path=(Path, Path("x")))))
    assert "changed" not in task_names()


def test_every_option_is_explained() -> None:
    """Where --help takes it from, and on the page."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text()
    for kind in (TrainingOptions, OptimizerOptions, RunConfiguration, AutoencoderTask.options):
        for option in dataclasses.fields(kind):
            assert f"\n        {option.name}: " in (kind.__doc__ or ""), option.name
            if kind in (TrainingOptions, OptimizerOptions):
                table = "training" if kind is TrainingOptions else "optimizer"
                assert re.search(rf"^\|[^|]*`{option.name}`[^|]*\| `{table}` \|", page, re.M), option.name
