"""Steps of a build: each runs one tool in a folder of its own, and is not repeated while nothing it depends on changed.

A step's product appears under its final name only when the tool has ended well; until then it lies in the folder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertile.errors import BertileError

STOP_SECONDS = 10.0  # for a tool to end by itself when the build is interrupted


@dataclass(frozen=True)
class Step:
    """`command` runs in `folder` and leaves `product` there, which becomes `output`. `inputs`: what it reads.

    The first word of the command is the tool; relative paths in it start at `folder`.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    product: str
    output: Path
    inputs: tuple[Path, ...]

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.name}.log")

    @property
    def stamp(self) -> Path:
        return self.folder.with_name(f"{self.name}.digest")


def digest(step: Step, versions: Mapping[str, str]) -> str:
    """Of everything that the product depends on: command, version of the tool, contents of the inputs."""
    total = hashlib.sha256("\0".join([*step.command, versions.get(step.command[0], "")]).encode())
    for path in step.inputs:
        content = path.read_bytes() if path.exists() else b"missing"
        total.update(path.name.encode() + b"\0" + hashlib.sha256(content).digest())
    return total.hexdigest()


def is_done(step: Step, versions: Mapping[str, str]) -> bool:
    return step.output.exists() and step.stamp.exists() and step.stamp.read_text() == digest(step, versions)


def shell_lines(step: Step, root: Path) -> list[str]:
    """What a user would type in `root` for the same product."""

    def quote(path: Path) -> str:
        return shlex.quote(os.path.relpath(path, root))

    folder = quote(step.folder)
    return [
        f"rm -rf {folder} && mkdir -p {folder}",
        f"(cd {folder} && {shlex.join(step.command)})",
        f"mv {quote(step.folder / step.product)} {quote(step.output)}",
    ]


def stop(process: subprocess.Popen) -> None:
    """End the tool and everything it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def run_tool(step: Step) -> int:
    """The tool's exit code; what it prints goes to the step's log."""
    with step.log.open("wb") as log:
        log.write(f"$ {shlex.join(step.command)}\n".encode())
        log.flush()
        # A session of its own, so that an interruption can reach what the tool has started, too.
        process = subprocess.Popen(
            step.command,
            cwd=step.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait()
        except BaseException:
            stop(process)
            raise


def first_error(log: Path) -> str:
    """The first line in which the tool reports an error, or nothing."""
    for line in log.read_text(errors="replace").splitlines():
        if line.lstrip().startswith("ERROR"):
            return f": {line.strip()}"
    return ""


def run_step(step: Step, versions: Mapping[str, str], root: Path) -> None:
    """Run the step. Raises BertileError with the log's path when the tool fails or leaves no product."""
    before = digest(step, versions)  # the inputs as they are now; who changes them meanwhile gets the step again
    step.stamp.unlink(missing_ok=True)
    step.output.unlink(missing_ok=True)
    shutil.rmtree(step.folder, ignore_errors=True)
    step.folder.mkdir(parents=True)
    code = run_tool(step)
    product, log = step.folder / step.product, os.path.relpath(step.log, root)
    if code:
        raise BertileError(
            f"{step.name} failed, {step.command[0]} exited with {code}{first_error(step.log)} (log: {log})"
        )
    if not product.is_file():
        raise BertileError(f"{step.name} failed, {step.command[0]} left no {step.product} (log: {log})")
    product.replace(step.output)
    step.stamp.write_text(before)


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def run_steps(steps: Sequence[Step], versions: Mapping[str, str], root: Path) -> None:
    """Run what is not done yet, one line a step. Raises BertileError at the first that fails."""
    signal.signal(signal.SIGTERM, interrupt)  # as Ctrl-C: no tool goes on alone
    for number, step in enumerate(steps, 1):
        sys.stdout.write(f"[{number}/{len(steps)}] {step.name} ({step.command[0]}) ... ")
        sys.stdout.flush()
        if is_done(step, versions):
            print("up to date", flush=True)
            continue
        started = time.monotonic()
        try:
            run_step(step, versions, root)
        except BaseException:
            print(flush=True)
            raise
        seconds = round(time.monotonic() - started)
        print(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}", flush=True)
