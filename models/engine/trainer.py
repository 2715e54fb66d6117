"""Training: epochs of steps, validation, checkpoints, and going on exactly where a run stopped."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from equikernels.models.data import SampleDraws, epoch_order
from equikernels.models.engine.batches import read_ahead, shares, to_device
from equikernels.models.engine.checkpoints import (
    Checkpoint,
    Position,
    restore,
    take_checkpoint,
    write_checkpoint,
)
from equikernels.models.engine.conclusion import leave_results, run_conditions
from equikernels.models.engine.configuration import RunConfiguration
from equikernels.models.engine.errors import ConfigurationError, RunError, Stopped, writing
from equikernels.models.engine.execution import (
    autocast,
    deterministic,
    enable_gradient_checkpointing,
    seed_generator,
)
from equikernels.models.engine.optimization import WeightAverage, learning_rate, make_optimizer
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.progress import ProgressReport
from equikernels.models.engine.records import RunLogs, write_json
from equikernels.models.engine.runs import (
    Run,
    check_free,
    create_run,
    initial_file,
    initial_weights,
    open_dataset,
    open_run,
    split_dataset,
)
from equikernels.models.engine.steps import Part, StepTaker
from equikernels.models.engine.stopping import StopSignals
from equikernels.models.engine.toml import to_toml
from equikernels.models.engine.validation import check_monitor, measure, validation_batches

if TYPE_CHECKING:
    from equikernels.models.data import Dataset

__all__ = ["resume", "train"]


def train(
    configuration: RunConfiguration[Any], folder: str | Path, *, dataset: Dataset | None = None
) -> dict[str, Any]:
    """Train a model from the beginning, and leave all of it in a new folder.

    The same configuration gives the same bits with the same versions, device, number of threads and
    processes, whether the run is interrupted or not.

    Args:
        dataset: in place of the one that `configuration.data` names.

    Returns:
        What metrics.json says.

    Raises:
        ConfigurationError: a mistake in the configuration; a folder that is in use or cannot be written.
        RunError: the run cannot go on: a full disk, a loss that is not finite.
        Stopped: SIGINT or SIGTERM came; all is saved.

    >>> import tempfile
    >>> from equikernels.models.data import load_dataset
    >>> from equikernels.models.engine import default_configuration
    >>> few = load_dataset("digits").subset(64)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     metrics = train(default_configuration("autoencoder"), folder, dataset=few)
    epoch 1/20, loss ...
    finished: loss ...
    >>> metrics["status"], metrics["steps"]
    ('finished', 20)
    """
    processes = Processes(configuration.training.device)
    # Mistakes are found before there is a folder.
    data = open_dataset(configuration) if dataset is None else dataset
    _, validation_part = split_dataset(data, configuration)
    autocast(configuration.training.precision, processes.device)
    if configuration.training.initial is not None:
        initial_file(configuration.training.initial)
    asked = Run(Path(folder), configuration)
    # The main process alone looks: to the others a folder that it has made already is not free.
    processes.on_main(lambda: check_free(asked.folder))
    check_monitor(asked.task, data, validation_part, configuration, processes)
    run = processes.on_main(lambda: create_run(asked.folder, configuration))
    return _Training(run, processes, data).run_to_end()


def resume(folder: str | Path, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Go on with an interrupted run, as if it had not been interrupted. A finished run stays as it is.

    Args, returns and raises as `train`; also
        RunError: a damaged checkpoint, or one of another configuration or other data.
    """
    run = open_run(folder)
    metrics = run.read_metrics()
    if metrics.get("status") == "finished":
        return metrics
    data = open_dataset(run.configuration) if dataset is None else dataset
    return _Training(run, Processes(run.configuration.training.device), data).run_to_end()


class _Training:
    """A run while it goes on."""

    def __init__(self, run: Run, processes: Processes, dataset: Dataset) -> None:
        self.run, self.processes = run, processes
        self.configuration = run.configuration
        self.options = run.configuration.training
        self.text = to_toml(run.configuration)
        self.task = run.task
        self.dataset = dataset
        self.data = {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint}
        self.train_part, self.validation_part = split_dataset(self.dataset, self.configuration)
        if self.configuration.validation_data is not None:
            self.data["validation_fingerprint"] = self.validation_part.fingerprint
        self.batches = math.ceil(len(self.train_part) / self.options.batch_size)
        self.begun, self.begun_processor = time.perf_counter(), time.process_time()
        before = run.read_metrics()
        self.seconds = float(before.get("seconds", 0.0))
        self.processor_seconds = float(before.get("processor_seconds", 0.0))

    def run_to_end(self) -> dict[str, Any]:
        with ExitStack() as stack:
            devices = [] if self.processes.device.type == "cpu" else [self.processes.device]
            stack.enter_context(torch.random.fork_rng(devices=devices))
            if self.options.deterministic:
                stack.enter_context(deterministic())
            self.signals = stack.enter_context(StopSignals())
            self._prepare()
            shown = ProgressReport(
                self.options.epochs, len(self.train_part), self.processes.is_main, self.options.monitor
            )
            self.report = stack.enter_context(shown)
            self.logs = self._open_logs()
            if self.logs is not None:
                stack.callback(self.logs.close)
            if self.position.step:
                self.report.say(
                    f"going on in epoch {self.position.epoch + 1}, after step {self.position.step}"
                )
            while self.position.epoch < self.options.epochs:
                self._train_epoch()
                self._end_epoch()
            return self._finish()

    # -- the state -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """The model and all that belongs to it, new or from the last checkpoint."""
        checkpoint = self._checkpoint()
        seed_generator(self.processes.device, self.configuration.seed, "parameters")
        self.model = self.task.build(self.dataset).to(self.processes.device)
        if self.options.initial is not None and checkpoint is None:
            initial_weights(self.options.initial, self.model)
        self.processes.align(self.model)
        decay = self.options.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.optimizer = make_optimizer(self.model, self.configuration.optimizer)
        scaled = self.options.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.processes.device.type, enabled=scaled)
        self.position = Position()
        if checkpoint is not None:
            parts = (self.model, self.optimizer, self.average, self.scaler)
            restore(self.run.checkpoint("last"), checkpoint, *parts)
            self.position = checkpoint.position
        if self.options.gradient_checkpointing:
            enable_gradient_checkpointing(self.model)
        if self.options.compile:
            self.model.compile()
        self.take_step = StepTaker(
            self.task,
            self.model,
            self.optimizer,
            self.scaler,
            self.options,
            self.processes,
            self.configuration.seed,
        )

    def _checkpoint(self) -> Checkpoint | None:
        checkpoint = self.run.read_last()
        if checkpoint is not None and dict(checkpoint.data) != self.data:
            same = checkpoint.data["fingerprint"] == self.data["fingerprint"]
            validation = same and "validation_fingerprint" in self.data
            key = "validation_fingerprint" if validation else "fingerprint"
            name = self.configuration.validation_data if validation else self.configuration.data
            raise RunError(
                f"{name}: the data set has changed: its fingerprint was {checkpoint.data.get(key)} when "
                f"{self.run.checkpoint('last')} was written, and is {self.data[key]}"
            )
        return checkpoint

    def _open_logs(self) -> RunLogs | None:
        if not self.processes.is_main:
            return None
        with writing():
            self.run.checkpoints.mkdir(exist_ok=True)
            for leftover in self.run.checkpoints.glob(".*"):
                leftover.unlink()  # what an interrupted run was writing
            return RunLogs(self.run.folder, self.position.logs, self.position.step)

    def _save(self, *names: str) -> None:
        """Write checkpoints of this moment."""

        def write() -> None:
            if self.logs is not None:
                self.position.logs = self.logs.to_disk()
            parts = (self.model, self.optimizer, self.average, self.scaler)
            checkpoint = take_checkpoint(*parts, self.position, self.text, self.data)
            for name in names:
                write_checkpoint(self.run.checkpoints / f"{name}.safetensors", checkpoint)

        self.processes.on_main(write)

    def _stop(self) -> None:
        """Save and end the run, because a signal asked for it."""
        self._save("last")
        self.processes.on_main(lambda: self._write_metrics("interrupted"))
        # Where only another process was asked, a launcher is ending all of them.
        received = signal.Signals(self.signals.received or signal.SIGTERM)
        raise Stopped(
            f"stopped by {received.name} after step {self.position.step}, all saved; to go on: "
            f"equikernels train --resume {self.run.folder}",
            128 + received,
        )

    # -- an epoch --------------------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        """The steps of this epoch that are left."""
        position, options, processes = self.position, self.options, self.processes
        order = epoch_order(self.configuration.seed, position.epoch, len(self.train_part))
        left = order.split(options.batch_size)[position.batch :]
        own = [shares(c, processes.rank, processes.count, options.accumulation) or [c[:0]] for c in left]
        self.report.begin(position.epoch, position.batch * options.batch_size)
        self.model.train()
        # A process without a share reads the first sample, so that it takes part with weight 0.
        wanted = [part if len(part) else c[:1] for c, parts in zip(left, own, strict=True) for part in parts]
        steps = self.options.epochs * self.batches
        with contextlib.closing(read_ahead(self.train_part, wanted, options.workers)) as read:
            for chosen, parts in zip(left, own, strict=True):
                rate = learning_rate(self.configuration.optimizer, position.step, steps)
                taken = self.take_step(
                    (self._part(next(read), chosen, part) for part in parts),
                    position.step + 1,
                    rate,
                    self.signals.received,
                )
                if self.average is not None:
                    self.average.update(self.model)
                position.step, position.batch = position.step + 1, position.batch + 1
                position.samples += len(chosen)
                for name, value in taken.terms.items():
                    position.sums[name] = position.sums.get(name, 0.0) + value * len(chosen)
                if position.step % options.log_steps == 0:
                    numbers = {**taken.terms, "gradient_norm": taken.gradient_norm, "learning_rate": rate}
                    self._log("steps", numbers)
                self.report.step(len(chosen), taken.terms["loss"])
                if taken.stop:
                    self._stop()
                if options.checkpoint_steps is not None and position.step % options.checkpoint_steps == 0:
                    self._save("last")

    def _part(self, batch: Mapping[str, Tensor], chosen: Tensor, part: Tensor) -> Part:
        draws = SampleDraws(self.configuration.seed, self.position.epoch, batch["index"])
        return Part(to_device(batch, self.processes.device), draws, len(part) / len(chosen))

    def _end_epoch(self) -> None:
        """Validate, record, keep."""
        position = self.position
        means = {name: total / position.samples for name, total in position.sums.items()}
        ended = position.epoch + 1
        validation: dict[str, float] = {}
        names = ["last"]
        if ended % self.options.validate_epochs == 0 or ended == self.options.epochs:
            validation = self._validate()
            position.last = {"epoch": ended, "step": position.step, **validation}
            if self._is_best(validation):
                position.best = position.last
                names.insert(0, "best")
            self._log("validation", validation)
        self._log("epochs", means)
        self.report.epoch(position.epoch, means, validation)
        position.epoch, position.batch, position.samples, position.sums = ended, 0, 0, {}
        self._save(*names)
        self.processes.on_main(lambda: self._write_metrics("training"))

    def _is_best(self, numbers: Mapping[str, float]) -> bool:
        name, best = self.options.monitor, self.position.best
        if name not in numbers:  # in a run.toml that was changed before its first checkpoint
            raise ConfigurationError(f"monitor: expected one of {', '.join(numbers)}, got {name!r}")
        if not best or math.isnan(best[name]):
            return True
        gain = numbers[name] - float(best[name])
        return gain > 0 if self.options.maximize else gain < 0

    def _log(self, log: str, numbers: Mapping[str, float]) -> None:
        if self.logs is not None:
            with writing():
                self.logs.append(log, {"step": self.position.step, "epoch": self.position.epoch + 1}, numbers)

    def _validate(self) -> dict[str, float]:
        """Numbers on the validation part, with the averaged weights where they are kept."""

        def between() -> None:
            # Where there are several processes they would have to agree on it: they stop after the next step.
            if self.signals.received and self.processes.count == 1:
                stopped.close()
                self._stop()

        batches = validation_batches(self.validation_part, self.configuration, self.processes.device)
        with ExitStack() as stopped:
            if self.average is not None:
                stopped.enter_context(self.average.in_place_of(self.model))
            return measure(self.task, self.model, batches, self.processes, self.options.precision, between)

    # -- the end ---------------------------------------------------------------------------------------------

    def _finish(self) -> dict[str, Any]:
        """Leave the best weights by themselves, the figures and the final numbers."""
        batches = validation_batches(self.validation_part, self.configuration, self.processes.device)

        def conclude() -> dict[str, Any]:
            leave_results(self.run, self.model, batches, self.logs, self.position.step)
            return self._write_metrics("finished")

        metrics = self.processes.on_main(conclude)
        best = self.position.best
        name = self.options.monitor
        self.report.say(f"finished: {name} {best[name]:.5g} at epoch {best['epoch']}, in {self.run.folder}")
        return metrics

    def _write_metrics(self, status: str) -> dict[str, Any]:
        position = self.position
        metrics = {
            "status": status,
            "task": self.configuration.task,
            "data": self.data,
            "samples": {"training": len(self.train_part), "validation": len(self.validation_part)},
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "epochs": position.epoch,
            "steps": position.step,
            "monitor": self.options.monitor,
            "best": position.best,
            "last": position.last,
            "seconds": round(self.seconds + time.perf_counter() - self.begun, 3),
            # Of all threads of the main process: what other work on the machine does not lengthen.
            "processor_seconds": round(
                self.processor_seconds + time.process_time() - self.begun_processor, 3
            ),
            "samples_per_second": round(self.report.rate, 1),
            "conditions": run_conditions(self.processes),
        }
        write_json(self.run.metrics, metrics)
        return metrics
