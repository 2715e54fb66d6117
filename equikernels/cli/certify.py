"""``equikernels certify``: the certificates of a saved softened model, without its class and its code."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from equikernels import __version__
from equikernels.cli import UserError
from equikernels.project.certification import LayerTable, certify_record
from equikernels.project.saving import MissingSafetensors, SavedFileError, SoftenedRecord, read_softened
from equikernels.project.saving.files import write_text

__all__ = ["run"]


def run(directory: Path, radius: float | None, samples: int, seed: int, out: Path | None = None) -> int:
    """Print the table of layers and save it as JSON and Markdown.

    Args:
        directory: a folder that `save_softened` wrote.
        radius: also bound elements of at most this size: degrees where the groups of the model have angles,
            letters where they are finite.
        samples, seed: as for `layer_certificates`.
        out: the JSON file; the Markdown file stands beside it. Default: certificate.json in the folder.

    Returns:
        0; 1 where a measured error exceeds its bound, which no model can do: it would be a mistake here.

    Raises:
        UserError: what is wrong with the folder or an argument, in one line.
    """
    target = directory / "certificate.json" if out is None else out
    if target.suffix != ".json":
        raise UserError(f"argument --out: expected a .json file, got {target}", exit_code=2)
    if samples < 1 or not 0 <= seed < 2**63:
        name, value = ("--samples", samples) if samples < 1 else ("--seed", seed)
        least = 1 if samples < 1 else 0
        raise UserError(f"argument {name}: expected an integer >= {least}, got {value}", exit_code=2)
    record = _read(directory)
    table = certify_record(record, radius=_length(radius, record), samples=samples, seed=seed)
    conditions = {"equikernels": __version__, "samples": samples, "seed": seed}
    numbers = json.dumps(conditions | table.to_dict(), indent=1, allow_nan=False) + "\n"
    try:
        write_text(target, numbers)
        write_text(target.with_suffix(".md"), table.to_markdown())
    except OSError as error:
        raise UserError(f"cannot write to {target}: {error.strerror}", exit_code=2) from error
    print(table)
    print(f"\nsaved: {target} and {target.with_suffix('.md')}")
    return _judge(table)


def _read(directory: Path) -> SoftenedRecord:
    try:
        return read_softened(directory)
    except SavedFileError as error:
        raise UserError(str(error), exit_code=2) from error
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or directory}: {error.strerror}", exit_code=2
        ) from error
    except MissingSafetensors as error:
        raise UserError(str(error)) from error


def _length(radius: float | None, record: SoftenedRecord) -> float | None:
    """The radius in radians or letters, as the groups of the model measure their elements."""
    if radius is None:
        return None
    if not 0 <= radius < math.inf:
        raise UserError(f"argument --radius: expected a number >= 0, got {radius}", exit_code=2)
    kinds = {group.lie_dim > 0 for group in record.groups}
    if len(kinds) > 1:
        raise UserError(
            "argument --radius: the layers of this model have finite groups and groups with angles, "
            f"so one radius cannot be both letters and degrees: {', '.join(map(repr, record.groups))}",
            exit_code=2,
        )
    return math.radians(radius) if kinds == {True} else radius


def _judge(table: LayerTable) -> int:
    if not table.violated:
        return 0
    names = ", ".join(f"{row.layer}.{row.parameter}" for row in table.violated)
    print(
        f"equikernels: a measured error exceeds its bound in {names}. No model can do that: this is a bug of "
        "equikernels, please report it with the saved certificate",
        file=sys.stderr,
    )
    return 1
