"""The command line: ``equikernels doctor | demo | certify | train | evaluate | infer | generate |
pictures``.

Exit codes: 0 success, 1 failure, 2 a mistake on the command line, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from equikernels import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after ``equikernels``; the process's own when ``None``.

    >>> main([])
    2
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    try:
        if words and words[0] in _MODEL_COMMANDS:
            return _model_command(words[0], words[1:])
        options = parser.parse_args(words)
        if options.command is None:
            parser.print_usage(sys.stderr)
            return 2
        code: int = options.run(options)
        return code
    except UserError as error:
        print(f"equikernels: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("equikernels: interrupted", file=sys.stderr)
        return 130


# The options of these are the fields of dataclasses, which are not loaded for the other commands.
_MODEL_COMMANDS = {
    "train": "train a model, or go on with a run",
    "evaluate": "measure a trained model",
    "infer": "apply a trained model to data",
    "generate": "let a trained model make samples",
    "pictures": "let a diffusion pipeline draw training images",
}


def _model_command(name: str, words: Sequence[str]) -> int:
    _require_extra_models()
    from equikernels.cli import pictures, running, train

    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "train": train.run,
        "evaluate": running.evaluate,
        "infer": running.infer,
        "generate": running.generate,
        "pictures": pictures.pictures,
    }
    return commands[name](words)


class UserError(Exception):
    """A mistake the user can mend, told in one line; everything else keeps its traceback."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="equikernels", description="Equivariant and softly equivariant deep learning."
    )
    parser.add_argument("--version", action="version", version=f"equikernels {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="print versions, devices and which kernels run here")
    doctor.set_defaults(run=_doctor)

    demo = commands.add_parser("demo", help="run the papers in miniature and write a page with figures")
    demo.add_argument(
        "--out", type=Path, default=Path("demo_output"), metavar="FOLDER", help="default: %(default)s"
    )
    demo.add_argument(
        "--parts",
        nargs="+",
        default=None,
        metavar="PART",
        help="what to run, such as soft-equivariance; default: all parts",
    )
    demo.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    demo.set_defaults(run=_demo)

    certify = commands.add_parser("certify", help="certify a saved softened model, layer by layer")
    certify.add_argument("directory", type=Path, metavar="DIR", help="a folder that save_softened wrote")
    certify.add_argument(
        "--radius",
        type=float,
        default=None,
        metavar="DEG|LETTERS",
        help="also bound elements of at most this size: degrees, or letters of a finite group",
    )
    certify.add_argument(
        "--samples", type=int, default=16, metavar="N", help="random elements; default: %(default)s"
    )
    certify.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    certify.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="FILE",
        help="where the numbers go, a .json file with a .md file beside it; default: DIR/certificate.json",
    )
    certify.set_defaults(run=_certify)
    for name, summary in _MODEL_COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from equikernels.cli.doctor import report

    print(report())
    return 0


def _demo(options: argparse.Namespace) -> int:
    out: Path = options.out
    if out.exists() and not out.is_dir():
        raise UserError(f"argument --out: expected a folder, but {out} is a file", exit_code=2)
    _require_extra_models()
    from equikernels.cli.demo import run

    return run(out, options.seed, options.parts)


def _certify(options: argparse.Namespace) -> int:
    from equikernels.cli.certify import run

    return run(options.directory, options.radius, options.samples, options.seed, options.out)


def _require_extra_models() -> None:
    # Asked beforehand instead of catching ImportError, which would also swallow a broken import of our own.
    from equikernels.cli.extras import missing_from_extra

    missing = missing_from_extra("models")
    if missing:
        raise UserError(
            f"this command needs the extra `models`, of which {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'equikernels[models]'"
        )
