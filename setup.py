"""Builds the optional C++ kernels; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import platform
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}

COMMON_FLAGS = [
    "-O3",
    "-fopenmp",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    # Vectors are passed between functions of one unit only, so their calling convention is free.
    "-Wno-psabi",
]

# By the ending of the file name: one unit per instruction set, chosen at run time.
INSTRUCTION_SETS = {
    "_avx2": ["-mavx2", "-mfma"],
    "_avx512": [
        "-mavx512f",
        "-mavx512vl",
        "-mavx512dq",
        "-mavx512bw",
        "-mavx2",
        "-mfma",
        "-mprefer-vector-width=512",
    ],
}


def flags_for(source: str) -> list[str]:
    stem = Path(source).stem
    return next((flags for ending, flags in INSTRUCTION_SETS.items() if stem.endswith(ending)), [])


def sources() -> list[str]:
    found = sorted(str(path) for folder in ("cpu", "python") for path in Path("csrc", folder).glob("*.cpp"))
    return [path for path in found if IS_X86 or not flags_for(path)]


class BuildKernels(build_ext):
    """Adds the flags of each file's instruction set, and says what a failed build means."""

    def build_extension(self, ext) -> None:  # type: ignore[no-untyped-def]
        if not hasattr(self.compiler, "_compile"):
            super().build_extension(ext)
            return
        compile_one = self.compiler._compile

        def compile_with_flags(obj, src, ext_name, cc_args, extra_postargs, pp_opts):  # type: ignore[no-untyped-def]
            compile_one(obj, src, ext_name, cc_args, [*extra_postargs, *flags_for(src)], pp_opts)

        self.compiler._compile = compile_with_flags
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one

    def run(self) -> None:
        super().run()
        missing = [ext.name for ext in self.extensions if not Path(self.get_ext_fullpath(ext.name)).exists()]
        if missing:
            self.warn(
                f"{', '.join(missing)} was not built (no working C++17 compiler with OpenMP?); "
                "equikernels works without it, on the slower plain-torch reference"
            )


if __name__ == "__main__":
    # As many files at a time as there are processors, or as this variable says.
    ParallelCompile("EQUIKERNELS_BUILD_JOBS").install()
    kernels = Pybind11Extension(
        "equikernels.ops._native",
        sources(),
        include_dirs=["csrc"],
        cxx_std=17,
        define_macros=[("EQUIKERNELS_X86", "1")] if IS_X86 else [],
        extra_compile_args=COMMON_FLAGS,
        extra_link_args=["-fopenmp"],
        depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
        optional=True,
    )
    setup(ext_modules=[kernels], cmdclass={"build_ext": BuildKernels})
