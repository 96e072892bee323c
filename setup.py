"""The compiled part of the package: the XRT runtime, where XRT is installed. All else is in pyproject.toml."""

import os
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

SOURCES = ["host/runtime/bindings.cpp", "host/runtime/card.cpp", "host/runtime/errors.cpp"]


def xrt_folders() -> tuple[str, str] | None:
    """Folders of XRT's headers and libraries: $XILINX_XRT, AMD's package or Debian's; None without any."""
    roots = [Path(os.environ["XILINX_XRT"])] if os.environ.get("XILINX_XRT") else []
    for root in [*roots, Path("/opt/xilinx/xrt")]:
        if (root / "include" / "xrt" / "xrt_kernel.h").is_file():
            return str(root / "include"), str(root / "lib")
    debian = Path("/usr/include/xrt")
    return (str(debian), "") if (debian / "xrt" / "xrt_kernel.h").is_file() else None


def extensions() -> list[Pybind11Extension]:
    """The runtime, or nothing: the package is of use without a card."""
    folders = xrt_folders()
    if folders is None:
        return []
    headers, libraries = folders
    return [
        Pybind11Extension(
            "bertile.runtime._xrt",
            SOURCES,
            depends=["host/runtime/card.hpp", "host/runtime/errors.hpp", "hls/include/bertile_spec.hpp"],
            cxx_std=17,
            include_dirs=["host/runtime", "hls/include"],
            extra_compile_args=["-isystem", headers, "-Wall", "-Wextra", "-Wno-unknown-pragmas"],
            library_dirs=[libraries] if libraries else [],
            runtime_library_dirs=[libraries] if libraries else [],
            libraries=["xrt_coreutil", "uuid"],
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": build_ext})
