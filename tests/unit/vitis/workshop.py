"""A copy of the checkout with stub tools on PATH, to run `python -m bertile.vitis` in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bertile.codegen.views import generate
from bertile.config.paths import ROOT
from bertile.config.spec import load_spec

PLATFORM = "xilinx_u200_gen3x16_xdma_2_202110_1"
TOOLS = ("v++", "vivado", "vitis_hls", "xclbinutil", "emconfigutil", "platforminfo")
STUB = Path(__file__).with_name("stub_tool.py")
IGNORED = shutil.ignore_patterns("__pycache__", "*.so", "*.xclbin")


class Workshop:
    """`root`: the copy. `environment`: of every run; tests change it."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.record = folder / "checkout", folder / "bin", folder / "record.jsonl"
        for name in ("spec", "hls", "rtl", "python", "bitstreams"):
            shutil.copytree(ROOT / name, self.root / name, ignore=IGNORED)
        (self.root / "bitstreams" / "manifest.toml").unlink(missing_ok=True)  # a real build may have written it
        for view in generate(load_spec()):
            copy = self.root / view.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(view, copy)
        self.bin.mkdir()
        for tool in TOOLS:
            self.install(tool)
        platform = folder / "platforms" / PLATFORM / f"{PLATFORM}.xpfm"
        platform.parent.mkdir(parents=True)
        platform.write_text("")
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PYTHONPATH": str(self.root / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PLATFORM_REPO_PATHS": str(folder / "platforms"),
            "STUB_RECORD": str(self.record),
        }

    def make_head(self, digest: str = "0123456789ABCDEF") -> Path:
        """A folder as `bertile head build` leaves it, with the files that matter here; relative to `root`."""
        folder = Path("build") / "head" / digest.lower() / "kernel"
        firmware = self.root / folder / "network" / "firmware"
        (firmware / "weights").mkdir(parents=True)
        header = f"static const uint64_t kHeadDigest = 0x{digest}ULL;  // of every number of the head\n"
        (self.root / folder / "bertile_head_config.hpp").write_text(header)
        (firmware / "bertile_head_network.h").write_text('#include "ap_fixed.h"\n#include "defines.h"\n')
        (firmware / "defines.h").write_text("")
        (firmware / "bertile_head_network.cpp").write_text(
            '#include "bertile_head_network.h"\n#include "parameters.h"\n'
        )
        (firmware / "parameters.h").write_text('#include "weights/w2.h"\n')
        (firmware / "weights" / "w2.h").write_text("")
        (self.root / folder / "digest").write_text("of the build")
        return folder

    def install(self, tool: str) -> None:
        (self.bin / tool).write_text(f"#!{sys.executable}\n{STUB.read_text()}")
        (self.bin / tool).chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "bertile.vitis", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Exit code and output of a run to its end."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def calls(self) -> list[tuple[str, str, list[str]]]:
        """Tool, folder and words of every call since the last time, those for versions and platforms left out."""
        if not self.record.exists():
            return []
        calls = [json.loads(line) for line in self.record.read_text().splitlines()]
        self.record.unlink()
        return [
            (call["tool"], os.path.relpath(call["folder"], self.root.resolve()), call["words"])
            for call in calls
            if call["tool"] != "platforminfo" and call["words"] not in (["--version"], ["-version"])
        ]


def succeed(result: subprocess.CompletedProcess) -> str:
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def fail(result: subprocess.CompletedProcess) -> str:
    """The one line of an error."""
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    return result.stderr
