"""Builds RTL modules with Verilator and runs cocotb tests on them."""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cocotb_tools.runner import Verilator
from find_libpython import find_libpython

from bertile.config.paths import BUILD_DIR, ROOT, RTL_DIR
from bertile.devices.build import compiler, machine_digest
from bertile.devices.verilate import locked, rtl_sources, verilator_root

BUILDS = BUILD_DIR / "rtl_tests"
SOURCES = [RTL_DIR / "lint.vlt", Path(__file__).parent / "bench" / "assertion_guard.sv", *rtl_sources()]
SEED = 1
# A warning fails the build; no module uses all of a package. Registers without a reset start with random bits.
BUILD_ARGUMENTS = ["--assert", "-Wall", "-Wno-UNUSEDPARAM", "--x-initial", "unique", "--x-assign", "unique"]
# The Python package of Verilator leaves empty in its makefiles what `configure` would have found out: without a word
# that includes a precompiled header, the compiler takes its name for one more object. Everything else is speed: of the
# model, of its construction, and of the run-time library, which is most of the work for a small module.
MAKE_VARIABLES = ["CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0"]
MAKE_VARIABLES += [f"{tool}={' '.join(compiler())}" for tool in ("CXX", "LINK")]


class Simulator(Verilator):
    """cocotb's runner, with the ports of the top module alone in sight: a model without inner handles is faster."""

    def _build_command(self) -> list[list[str]]:
        verilate, *others = super()._build_command()
        at = verilate.index("--public-flat-rw")
        return [[*verilate[:at], "--public-depth", "1", *verilate[at + 1 :]], *others]

    def _set_env_common(self) -> None:
        super()._set_env_common()
        root = verilator_root()
        self.env["VERILATOR_ROOT"] = str(root)
        self.env["MAKEFLAGS"] = " ".join(variable.replace(" ", "\\ ") for variable in MAKE_VARIABLES)
        self.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "python"), self.env["PYTHONPATH"]])

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator_root() / "bin" / "verilator_bin")


def digest_of(*parts: object) -> str:
    """Of what a build depends on."""
    digest = machine_digest(compiler())
    digest.update(repr((parts, version("verilator"), version("cocotb"))).encode())
    for path in SOURCES:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def build(toplevel: str, parameters: dict[str, int]) -> Path:
    """The folder with the model of a module, made anew when anything it depends on changed."""
    name = "-".join([toplevel, *(str(value) for value in parameters.values())])
    folder, digest = BUILDS / name, digest_of(parameters, BUILD_ARGUMENTS, MAKE_VARIABLES)
    stamp = folder / "digest"
    with locked(folder):
        if not stamp.exists() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            verilate(toplevel, parameters, folder)
            stamp.write_text(digest)
    return folder


def verilate(toplevel: str, parameters: dict[str, int], folder: Path) -> None:
    clock = "ap_clk" if toplevel == "bertile_engine" else "clk"
    guard, log = folder / "guard.sv", folder / "build.log"
    guard.write_text(f"bind {toplevel} assertion_guard guard (.clk({clock}));\n")
    try:
        Simulator().build(
            sources=[*SOURCES, guard],
            hdl_toplevel=toplevel,
            parameters=parameters,
            build_args=BUILD_ARGUMENTS,
            build_dir=folder,
            timescale=("1ns", "1ps"),
            log_file=log,
        )
    except RuntimeError:
        lines = log.read_text(errors="replace").splitlines()
        pytest.fail("\n".join([f"{toplevel} {parameters} does not build:", *lines[-40:]]), pytrace=False)


def outcome(results: Path) -> list[str]:
    """Names and messages of the cocotb tests that failed; that there was none at all is a failure, too."""
    cases = list(ElementTree.parse(results).getroot().iter("testcase")) if results.exists() else []
    found = [] if cases else ["no test ran"]
    for case in cases:
        for problem in [*case.findall("failure"), *case.findall("error")]:
            message = problem.get("message") or problem.get("error_msg") or ""
            found.append(f"{case.get('name')}: {message}")
    return found


def simulate(toplevel: str, parameters: dict[str, int], cases: list[str], only: str | None = None) -> None:
    """Run the cocotb tests of tests/rtl/cases/ on a module, `only` those that match, and fail with those that fail.

    All of them run in one simulation, in the order of `cases`.
    """
    if find_libpython() is None:  # the simulator runs the tests inside itself
        pytest.skip("cocotb needs the shared library of Python (Debian, Ubuntu: apt install libpython3-dev)")
    folder = build(toplevel, parameters)
    log, results = folder / "simulation.log", folder / "results.xml"
    stopped = False
    try:
        Simulator().test(
            test_module=[f"tests.rtl.cases.{name}" for name in cases],
            hdl_toplevel=toplevel,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            results_xml=str(results),
            seed=SEED,
            test_filter=only,
            test_args=["+verilator+rand+reset+2", f"+verilator+seed+{SEED}"],
            plusargs=[f"+{name}={value}" for name, value in parameters.items()],
            log_file=log,
        )
    except (SystemExit, RuntimeError):
        stopped = True
    text = log.read_text(errors="replace")
    found = outcome(results)
    errors = re.findall(r"^.*%Error.*$", text, re.MULTILINE)  # an assertion of the RTL ends the simulation at once
    if found or stopped:
        pytest.fail("\n".join([*errors[:1], *found[:5], f"{log}:", *text.splitlines()[-30:]]), pytrace=False)
