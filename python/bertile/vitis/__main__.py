"""`python -m bertile.vitis hw|hw_emu|csynth|record`: what `make hw`, `make hw_emu` and `make csynth` run."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bertile.codegen.views import generate
from bertile.config.kernels import load_kernels
from bertile.config.paths import BUILD_DIR, ROOT
from bertile.config.spec import load_spec
from bertile.errors import BertileError, run_program
from bertile.vitis.flow import TOOLS, Build, build_steps, csynth_steps, make_build
from bertile.vitis.manifest import MANIFEST, Bitstream, record, sha256_of, write_atomically
from bertile.vitis.reports import parse_csynth, parse_link_info, port_differences
from bertile.vitis.steps import Step, run_steps, shell_lines
from bertile.vitis.tools import WANTED, check_tools

SUMMARY = BUILD_DIR / "csynth" / "summary.json"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bertile.vitis", description=__doc__)
    parser.add_argument("flow", choices=[*TOOLS, "record"])
    parser.add_argument("--target", default="u200", help="a file of spec/targets")
    parser.add_argument("--engine", default="rtl", help="rtl or hls")
    parser.add_argument("--head", type=Path, metavar="FOLDER", help="with the kernel that `bertile head build` made")
    parser.add_argument("--clock", type=int, metavar="MHZ", help="clock to ask for; the target's first when not given")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    return parser.parse_args(arguments)


def check_views() -> None:
    """Tools must not be fed with views of another contract. Raises BertileError."""
    stale = [path for path, text in generate(load_spec()).items() if not path.exists() or path.read_text() != text]
    if stale:
        raise BertileError(f"{os.path.relpath(stale[0], ROOT)} is stale: run `make spec`")


def options(build: Build) -> list[str]:
    """The command line of this build, for a user to repeat in the repository root."""
    words = ["--target", build.target, "--engine", build.engine, "--clock", str(build.megahertz)]
    return [*words, *(["--head", os.path.relpath(build.head.folder, ROOT)] if build.head else [])]


def print_commands(flow: str, steps: Sequence[Step], platform: str | None, last: str | None) -> None:
    """A dry run: the tools as a comment, then every command, from the repository root."""
    needs = f"# needs Vitis {WANTED}: {', '.join(TOOLS[flow])}"
    print(needs + (f"; platform {platform}" if platform else ""))
    for step in steps:
        print("\n".join(shell_lines(step, ROOT)))
    if last:
        print(last)


def record_build(build: Build) -> None:
    """Copy the build's xclbin to bitstreams/ and write its entry. Raises BertileError where the build is not whole."""
    for path in (build.xclbin, build.info):
        if not path.is_file():
            raise BertileError(f"no {os.path.relpath(path, ROOT)}: it comes from `make hw`")
    info = parse_link_info(build.info.read_text(errors="replace"))
    if info.asked is not None and info.asked != build.megahertz:
        raise BertileError(f"{build.xclbin.name} was linked for {info.asked:g} MHz, not for {build.megahertz} MHz")
    entry = Bitstream(
        file=build.xclbin.name,
        target=build.target,
        engine=build.engine,
        kernels=[kernel.name for kernel in build.kernels],
        head=build.head.digest if build.head else "",
        platform=build.link.platform,
        spec_digest=load_spec().digest,
        tool=info.tool,
        clock_asked_mhz=build.megahertz,
        clock_reached_mhz=info.reached,
        sha256=sha256_of(build.xclbin),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    )
    written = record(build.xclbin, entry, MANIFEST)
    verb = "wrote" if written else "unchanged:"
    print(f"{verb} {os.path.relpath(MANIFEST.parent / entry.file, ROOT)}, {entry.clock_reached_mhz:g} MHz reached")
    if entry.clock_reached_mhz < entry.clock_asked_mhz:
        print(f"note: {entry.clock_asked_mhz:g} MHz were asked for; where to look is in docs/bitstream.md")


def build_bitstream(build: Build, dry_run: bool) -> int:
    """`hw` or `hw_emu`."""
    steps = build_steps(build)
    if dry_run:
        last = f".venv/bin/python -m bertile.vitis record {shlex.join(options(build))}"
        print_commands(build.flow, steps, build.link.platform, last if build.flow == "hw" else None)
        return 0
    load_spec()  # as it is now: the digest of what is built, should someone edit the file meanwhile
    versions = check_tools(build.flow, TOOLS[build.flow], build.link.platform)
    check_views()
    run_steps(steps, versions, ROOT)
    if build.flow == "hw":
        record_build(build)
    else:
        print(f"wrote {os.path.relpath(build.xclbin, ROOT)}")
    return 0


def summarize(target: str, megahertz: int, steps: Sequence[Step]) -> list[str]:
    """Write the kernels' reports as one JSON and print them as a table; what differs from the contract."""
    kernels, differences = {}, []
    print(f"{'kernel':<18}{'clock ns':>9}{'LUT':>9}{'FF':>9}{'DSP':>7}{'BRAM_18K':>10}{'URAM':>6}{'II > 1':>8}")
    for step in steps:
        report = parse_csynth(step.output.read_text())
        kernels[step.name] = report
        area = "".join(
            f"{'-' if report['area'][key] is None else report['area'][key]:>{width}}"
            for key, width in (("lut", 9), ("ff", 9), ("dsp", 7), ("bram_18k", 10), ("uram", 6))
        )
        slow = [loop for loop in report["loops"] if (loop["ii"] or 0) > 1]
        print(f"{step.name:<18}{report['estimated_period_ns'] or '-':>9}{area}{len(slow):>8}")
        differences += port_differences(load_kernels()[step.name], report["ports"])
        for loop in slow:
            print(f"  II {loop['ii']}: {loop['module']}, {loop['loop']}")
    summary = {"target": target, "megahertz": megahertz, "spec_digest": load_spec().digest, "kernels": kernels}
    write_atomically(SUMMARY, json.dumps(summary, indent=1) + "\n")
    print(os.path.relpath(SUMMARY, ROOT))
    return differences


def synthesize(build: Build, dry_run: bool) -> int:
    """`csynth`."""
    steps = csynth_steps(build.target, build.megahertz, build.head)
    if dry_run:
        print_commands("csynth", steps, None, None)
        return 0
    versions = check_tools("csynth", TOOLS["csynth"])
    check_views()
    run_steps(steps, versions, ROOT)
    differences = summarize(build.target, build.megahertz, steps)
    if differences:
        raise BertileError(f"Vitis HLS sees other ports than spec/kernels.toml: {'; '.join(differences)}")
    return 0


def main(arguments: list[str]) -> int:
    choice = parse(arguments)
    build = make_build(choice.flow, choice.target, choice.engine, choice.head, choice.clock)
    if choice.flow == "csynth":
        return synthesize(build, choice.dry_run)
    if choice.flow == "record":
        record_build(make_build("hw", choice.target, choice.engine, choice.head, choice.clock))
        return 0
    return build_bitstream(build, choice.dry_run)


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
