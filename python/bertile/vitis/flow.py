"""The steps of `make hw`, `make hw_emu` and `make csynth`, made from the kernels and the target in spec/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bertile.config.kernels import HEAD, Kernel, Link, load_link
from bertile.config.paths import BUILD_DIR, RTL_DIR
from bertile.config.target import load_target
from bertile.errors import BertileError
from bertile.head.folder import HeadFolder, open_head_folder
from bertile.vitis.sources import CSYNTH_SCRIPT, PACKAGE_SCRIPT, compiled, hls_sources, rtl_sources
from bertile.vitis.steps import Step
from bertile.vitis.views import config_path, targets

ENGINES = ("rtl", "hls")
TOOLS = {"hw": ("v++", "vivado", "xclbinutil"), "hw_emu": ("v++", "vivado", "emconfigutil"), "csynth": ("vitis_hls",)}
MODES = {"in": "slave", "out": "master"}


@dataclass(frozen=True)
class Build:
    """What is built: `flow` hw or hw_emu, `engine` rtl or hls, `head` the one that is linked, too."""

    flow: str
    target: str
    engine: str
    head: HeadFolder | None
    megahertz: int

    @property
    def link(self) -> Link:
        return load_link(self.target)

    @property
    def kernels(self) -> list[Kernel]:
        """In the order in which they are made and linked."""
        return linked_kernels(self.link, self.head)

    @property
    def stem(self) -> str:
        """Of the bitstream; the RTL engine without options has the short name, which the runtime looks for."""
        suffixes = [name for name, there in (("hls", self.engine == "hls"), ("head", self.head is not None)) if there]
        return "_".join(["bertile", self.target, *suffixes])

    @property
    def folder(self) -> Path:
        return BUILD_DIR / self.flow / self.target / (f"{self.engine}_head" if self.head else self.engine)

    @property
    def xclbin(self) -> Path:
        return self.folder / f"{self.stem}.xclbin"

    @property
    def info(self) -> Path:
        return self.folder / f"{self.stem}.xclbin.info"

    def is_rtl(self, kernel: Kernel) -> bool:
        return kernel.language == "rtl" or (kernel.language == "either" and self.engine == "rtl")


def linked_kernels(link: Link, head: HeadFolder | None) -> list[Kernel]:
    return [*link.kernels.values(), *([link.optional[HEAD]] if head else [])]


def make_build(flow: str, target: str, engine: str, head: Path | None, megahertz: int | None) -> Build:
    """head: the folder of a built head. megahertz: None is the target's first.

    Raises BertileError for a target, engine or head that is not there.
    """
    if target not in targets():
        raise BertileError(f"no target {target}: spec/targets has {', '.join(targets())}")
    if engine not in ENGINES:
        raise BertileError(f"no engine {engine}: it is {' or '.join(ENGINES)}")
    opened = None if head is None else open_head_folder(head)
    return Build(flow, target, engine, opened, megahertz or load_target(target)["clock"]["megahertz"][0])


def relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)


def make_step(build: Build, name: str, command: list[str], output: Path, inputs: tuple[Path, ...]) -> Step:
    """A step in a folder of its own; the tool writes the output's name there."""
    return Step(name, tuple(command), build.folder / name, output.name, output, inputs)


def compile_step(build: Build, kernel: Kernel) -> Step:
    """HLS source to .xo."""
    folder = build.folder / kernel.name
    sources, includes = compiled(kernel, build.head)
    command = ["v++", "-c", "-t", build.flow, "--platform", build.link.platform, "-k", kernel.name]
    command += ["--hls.clock", f"{build.megahertz}000000:{kernel.name}"]
    command += [f"-I{relative(include, folder)}" for include in includes]
    command += ["--save-temps", "--temp_dir", "temp", "--log_dir", "logs", "--report_dir", "reports"]
    command += ["-o", f"{kernel.name}.xo", *(relative(source, folder) for source in sources)]
    inputs = hls_sources(kernel, build.head)
    return make_step(build, kernel.name, command, build.folder / f"{kernel.name}.xo", inputs)


def package_step(build: Build, kernel: Kernel) -> Step:
    """RTL sources to .xo."""
    folder = build.folder / kernel.name
    command = ["vivado", "-mode", "batch", "-notrace", "-nojournal", "-log", "vivado.log"]
    command += ["-source", relative(PACKAGE_SCRIPT, folder), "-tclargs", f"{kernel.name}.xo"]
    command += [load_target(build.target)["target"]["part"], kernel.name, relative(RTL_DIR, folder)]
    command += [f"{stream.name}:{MODES[stream.direction]}" for stream in kernel.streams]
    return make_step(build, kernel.name, command, build.folder / f"{kernel.name}.xo", rtl_sources())


def kernel_steps(build: Build) -> list[Step]:
    return [
        package_step(build, kernel) if build.is_rtl(kernel) else compile_step(build, kernel) for kernel in build.kernels
    ]


def link_step(build: Build, objects: list[Path]) -> Step:
    """All .xo to the .xclbin."""
    folder = build.folder / "link"
    configs = [config_path(build.target), *([config_path(build.target, HEAD)] if build.head else [])]
    command = ["v++", "-l", "-t", build.flow, "--platform", build.link.platform]
    for config in configs:
        command += ["--config", relative(config, folder)]
    # The kernels' clock of an Alveo platform is number 0, a scalable one (UG1393, Managing Clock Frequencies).
    command += ["--kernel_frequency", str(build.megahertz), "--report_level", "1"]
    command += ["--save-temps", "--temp_dir", "temp", "--log_dir", "logs", "--report_dir", "reports"]
    command += ["-o", build.xclbin.name, *(relative(path, folder) for path in objects)]
    return make_step(build, "link", command, build.xclbin, (*objects, *configs))


def info_step(build: Build) -> Step:
    """What XRT reads in the .xclbin: the clock that was reached, the memories, the kernels' registers."""
    source = relative(build.xclbin, build.folder / "info")
    command = ["xclbinutil", "--quiet", "--force", "--info", build.info.name, "--input", source]
    return make_step(build, "info", command, build.info, (build.xclbin,))


def emulation_step(build: Build) -> Step:
    """The card's description that hardware emulation asks for, beside the .xclbin."""
    command = ["emconfigutil", "--platform", build.link.platform, "--od", "."]
    return make_step(build, "emconfig", command, build.folder / "emconfig.json", ())


def build_steps(build: Build) -> list[Step]:
    """In order; the last one leaves all that is wanted."""
    steps = kernel_steps(build)
    steps.append(link_step(build, [step.output for step in steps]))
    steps.append(info_step(build) if build.flow == "hw" else emulation_step(build))
    return steps


def csynth_steps(target: str, megahertz: int, head: HeadFolder | None) -> list[Step]:
    """Every HLS kernel through Vitis HLS alone; the output is its report."""
    steps = []
    for kernel in linked_kernels(load_link(target), head):
        if kernel.language == "rtl":
            continue
        folder = BUILD_DIR / "csynth" / kernel.name
        sources, includes = compiled(kernel, head)
        command = ["vitis_hls", "-f", relative(CSYNTH_SCRIPT, folder), "-tclargs", kernel.name]
        command += [load_target(target)["target"]["part"], f"{1000 / megahertz:.3f}"]
        command += [relative(path, folder) for path in (*sources, *includes)]
        product = "project/solution/syn/report/csynth.xml"
        output = folder.with_name(f"{kernel.name}.xml")
        inputs = (*hls_sources(kernel, head), CSYNTH_SCRIPT)
        steps.append(Step(kernel.name, tuple(command), folder, product, output, inputs))
    return steps
