"""Are the tools there, in the version that is wanted, and the platform?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bertile.errors import BertileError

WANTED = "2022.1"  # the last line that supports the U200's platform well
# How each tool of Vitis tells its version. What comes from XRT has another numbering and is only looked for.
VERSION_OPTIONS = {"v++": "--version", "vivado": "-version", "vitis_hls": "-version"}
# v++ and vivado print `v++ v2022.1 (64-bit)`, vitis_hls `... from C, C++ and OpenCL v2022.1 (64-bit)`; an update has a
# third number.
BANNER = re.compile(r"\bv(\d{4}\.\d+)(\.\d+)? \(64-bit\)")
PLATFORM_FOLDER = Path("/opt/xilinx/platforms")
ANSWER_SECONDS = 60


def missing_tools(tools: Sequence[str]) -> list[str]:
    return [tool for tool in tools if shutil.which(tool) is None]


def platform_folders() -> list[Path]:
    """Where v++ looks for a platform: the user's folders, then the installed ones (UG1393, platforminfo)."""
    folders = [Path(folder) for folder in os.environ.get("PLATFORM_REPO_PATHS", "").split(os.pathsep) if folder]
    folders.append(PLATFORM_FOLDER)
    if os.environ.get("XILINX_VITIS"):
        folders.append(Path(os.environ["XILINX_VITIS"]) / "platforms")
    return folders


def has_platform(name: str) -> bool:
    """The platform lies in one of the folders, or platforminfo knows it all the same."""
    for folder in platform_folders():
        if any(path.is_file() for path in (folder / f"{name}.xpfm", folder / name / f"{name}.xpfm")):
            return True
    return shutil.which("platforminfo") is not None and name in answer(["platforminfo", "--list"])


def answer(command: list[str]) -> str:
    """What a short command prints; empty where it does not run."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout


def find_version(tool: str) -> str:
    """The tool's version with its update, such as 2022.1 or 2022.1.2. Raises BertileError where it tells none."""
    found = BANNER.search(answer([tool, VERSION_OPTIONS[tool]]))
    if found is None:
        raise BertileError(f"{tool} {VERSION_OPTIONS[tool]} tells no version ({shutil.which(tool)})")
    return found[1] + (found[2] or "")


def check_tools(target: str, tools: Sequence[str], platform: str | None = None) -> dict[str, str]:
    """Versions of the tools that have one. Raises BertileError, in one line, with everything that is missing.

    target: the make target, for the message. platform: None where none is needed.
    """
    problems = []
    missing = missing_tools(tools)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        scripts = "settings64.sh" if "xclbinutil" not in missing else "settings64.sh, and XRT's setup.sh"
        problems.append(f"{', '.join(missing)} {verb} not on PATH (source its {scripts})")
    if platform is not None and not has_platform(platform):
        problems.append(f"platform {platform} is neither in $PLATFORM_REPO_PATHS nor in {PLATFORM_FOLDER}")
    if problems:
        raise BertileError(f"make {target} needs Vitis {WANTED}: {'; '.join(problems)}")
    versions = {tool: find_version(tool) for tool in tools if tool in VERSION_OPTIONS}
    wrong = [f"{tool} is {version}" for tool, version in versions.items() if not version.startswith(WANTED)]
    if wrong:
        raise BertileError(f"make {target} needs Vitis {WANTED}, but {', '.join(wrong)}")
    return versions
