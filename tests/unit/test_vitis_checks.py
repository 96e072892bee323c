"""What is checked before a build: tools, versions, the platform, the choices; and `make`, which passes them on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.vitis.workshop import PLATFORM, Workshop, fail, succeed

from bertile.config.paths import ROOT


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_without_any_tool(workshop):
    """One line that names what is missing and which version is wanted, within a second or so."""
    workshop.environment |= {"PATH": "/usr/bin:/bin", "PLATFORM_REPO_PATHS": ""}
    started = time.monotonic()
    assert fail(workshop.run("hw")) == (
        "error: make hw needs Vitis 2022.1: v++, vivado, xclbinutil are not on PATH (source its settings64.sh, and "
        f"XRT's setup.sh); platform {PLATFORM} is neither in $PLATFORM_REPO_PATHS nor in /opt/xilinx/platforms\n"
    )
    assert time.monotonic() - started < 5  # 0.2 s on an idle machine
    assert "make csynth needs Vitis 2022.1: vitis_hls is not on PATH (source its settings64.sh)" in fail(
        workshop.run("csynth")
    )


def test_one_tool_missing(workshop):
    (workshop.bin / "vivado").unlink()
    error = fail(workshop.run("hw"))
    assert error == "error: make hw needs Vitis 2022.1: vivado is not on PATH (source its settings64.sh)\n"
    assert workshop.calls() == []


@pytest.mark.parametrize("version", ["2023.2", "2021.2", "2022.2.1"])
def test_wrong_version(workshop, version):
    workshop.environment["STUB_VERSION_VPP"] = version
    assert fail(workshop.run("hw")) == f"error: make hw needs Vitis 2022.1, but v++ is {version}\n"
    assert workshop.calls() == []
    workshop.environment["STUB_VERSION_VITIS_HLS"] = version
    assert f"but vitis_hls is {version}" in fail(workshop.run("csynth"))


def test_missing_platform(workshop):
    """Unless platforminfo knows a folder that this program does not."""
    workshop.environment["PLATFORM_REPO_PATHS"] = str(workshop.bin)
    error = fail(workshop.run("hw"))
    assert f"needs Vitis 2022.1: platform {PLATFORM} is neither in $PLATFORM_REPO_PATHS" in error
    assert workshop.calls() == []
    workshop.environment["STUB_PLATFORMS"] = f'"baseName": "{PLATFORM}"'
    succeed(workshop.run("hw"))


def test_stale_view_is_refused(workshop):
    (workshop.root / "hls/link/u200.cfg").write_text("[connectivity]\n")
    assert fail(workshop.run("hw")) == "error: hls/link/u200.cfg is stale: run `make spec`\n"
    assert workshop.calls() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--target", "u50"], "no target u50: spec/targets has u200"),
        (["--engine", "vhdl"], "no engine vhdl: it is rtl or hls"),
    ],
)
def test_unknown_choice(workshop, arguments, error):
    assert fail(workshop.run("hw", *arguments)) == f"error: {error}\n"


@pytest.mark.parametrize(
    ("missing", "cause"),
    [
        ("bertile_head_config.hpp", "no bertile_head_config.hpp"),
        ("network/firmware/bertile_head_network.cpp", "no bertile_head_network.cpp"),
        ("digest", "no digest"),  # interrupted: it is written last
        ("", "no such folder"),
    ],
)
@pytest.mark.parametrize("flow", ["hw", "csynth"])
def test_folder_that_is_no_built_head(workshop, flow, missing, cause):
    """One line, before anything else is looked for; and nothing runs."""
    head = workshop.make_head()
    (workshop.root / head / missing).rename(workshop.root / "elsewhere")
    workshop.environment |= {"PATH": "/usr/bin:/bin", "PLATFORM_REPO_PATHS": ""}
    expected = f"{head} is no built head: {cause} (`bertile head build` makes and names the folder)\n"
    started = time.monotonic()
    error = fail(workshop.run(flow, "--head", str(head)))
    assert time.monotonic() - started < 5  # 0.2 s on an idle machine
    assert error.endswith(expected)
    assert fail(workshop.run(flow, "--dry-run", "--head", str(head))) == error
    assert workshop.calls() == []


def test_head_without_a_digest_is_refused(workshop):
    head = workshop.make_head()
    (workshop.root / head / "bertile_head_config.hpp").write_text("// nothing\n")
    assert "bertile_head_config.hpp has no digest" in fail(workshop.run("hw", "--head", str(head)))


def test_nothing_of_the_converter_is_imported():
    """`make hw` answers at once, and needs none of it."""
    code = "import sys, bertile.vitis.__main__; sys.exit(bool({'torch', 'hls4ml', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_make_passes_its_variables_on(workshop):
    """`make hw` without Vitis is one line and exit code 2; a dry run needs no tool."""
    shutil.copy(ROOT / "Makefile", workshop.root)
    python = workshop.root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def make(*words: str) -> subprocess.CompletedProcess:
        command = ["make", "--assume-old=setup", *words]
        environment = {**workshop.environment, "PATH": "/usr/bin:/bin", "PLATFORM_REPO_PATHS": ""}
        return subprocess.run(
            command, cwd=workshop.root, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    result = make("hw", "TARGET=u200")
    assert (result.returncode, result.stdout) == (2, "")
    first, *others = result.stderr.splitlines()
    assert first.startswith("error: make hw needs Vitis 2022.1: v++, vivado, xclbinutil are not on PATH")
    assert [line.startswith("make: ***") for line in others] == [True]
    head = workshop.make_head()
    for words, arguments in (
        (["hw", "ENGINE=hls", "CLOCK=250"], ["hw", "--engine", "hls", "--clock", "250"]),
        (["hw_emu", "TARGET=u200"], ["hw_emu"]),
        (["csynth"], ["csynth"]),
        (["hw", f"HEAD={head}"], ["hw", "--head", str(head)]),
        (["csynth", f"HEAD={head}"], ["csynth", "--head", str(head)]),
    ):
        result = make(*words, "DRY_RUN=1")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == workshop.run(*arguments, "--dry-run").stdout
    assert "no target u50" in make("hw", "TARGET=u50").stderr
    assert "/1 is no built head: no such folder" in make("hw", "HEAD=1").stderr
    assert "not on PATH" in make("hw", "DRY_RUN=0").stderr
