"""The way to a bitstream with stub tools: which commands run, in which order, what is repeated, what is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.vitis.workshop import PLATFORM, Workshop, fail, succeed

from bertile.config.kernels import load_kernels
from bertile.config.spec import load_spec
from bertile.vitis.manifest import read_manifest

STREAMS = "commands:slave tiles:slave words:slave words_from_0:slave words_from_1:slave results:master"
V_OPTIONS = "--save-temps --temp_dir temp --log_dir logs --report_dir reports"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def compile_call(kernel: str, flow: str = "hw", engine: str = "rtl", megahertz: int = 300) -> tuple:
    up = "../../../../.."
    words = f"-c -t {flow} --platform {PLATFORM} -k {kernel} --hls.clock {megahertz}000000:{kernel}"
    words += f" -I{up}/hls/include -I{up}/hls/kernels {V_OPTIONS} -o {kernel}.xo {up}/hls/kernels/{kernel}.cpp"
    return ("v++", f"build/{flow}/u200/{engine}/{kernel}", words.split())


def package_call(flow: str = "hw") -> tuple:
    words = "-mode batch -notrace -nojournal -log vivado.log -source ../../../../../rtl/syn/package_engine.tcl -tclargs"
    words += f" bertile_engine.xo xcu200-fsgd2104-2-e bertile_engine ../../../../../rtl {STREAMS}"
    return ("vivado", f"build/{flow}/u200/rtl/bertile_engine", words.split())


def link_call(name: str, flow: str = "hw", engine: str = "rtl", megahertz: int = 300) -> tuple:
    words = f"-l -t {flow} --platform {PLATFORM} --config ../../../../../hls/link/u200.cfg"
    words += f" --kernel_frequency {megahertz} --report_level 1 {V_OPTIONS}"
    words += f" -o {name}.xclbin ../bertile_encoder.xo ../bertile_engine.xo"
    return ("v++", f"build/{flow}/u200/{engine}/link", words.split())


def info_call(name: str, engine: str = "rtl") -> tuple:
    words = f"--quiet --force --info {name}.xclbin.info --input ../{name}.xclbin"
    return ("xclbinutil", f"build/hw/u200/{engine}/info", words.split())


HW_CALLS = [compile_call("bertile_encoder"), package_call(), link_call("bertile_u200"), info_call("bertile_u200")]


def test_bitstream_with_the_rtl_engine(workshop):
    workshop.environment["STUB_REACHED"] = "287.5"
    output = succeed(workshop.run("hw"))
    assert workshop.calls() == HW_CALLS
    bitstream = workshop.root / "bitstreams" / "bertile_u200.xclbin"
    (entry,) = read_manifest(workshop.root / "bitstreams" / "manifest.toml")
    assert vars(entry) == {
        "file": "bertile_u200.xclbin",
        "target": "u200",
        "engine": "rtl",
        "kernels": ["bertile_encoder", "bertile_engine"],
        "head": "",
        "platform": PLATFORM,
        "spec_digest": load_spec().digest,
        "tool": "v++ 2022.1 (SW build 3524075)",
        "clock_asked_mhz": 300,
        "clock_reached_mhz": 287.5,
        "sha256": hashlib.sha256(bitstream.read_bytes()).hexdigest(),
        "date": entry.date,
    }
    assert time.strptime(entry.date, "%Y-%m-%d")
    lines = output.splitlines()
    assert [line.split(" ... ")[0] for line in lines[:4]] == [
        "[1/4] bertile_encoder (v++)",
        "[2/4] bertile_engine (vivado)",
        "[3/4] link (v++)",
        "[4/4] info (xclbinutil)",
    ]
    assert all(line.endswith(("0:00:00", "0:00:01")) for line in lines[:4])
    assert lines[4:] == [
        "wrote bitstreams/bertile_u200.xclbin, 287.5 MHz reached",
        "note: 300 MHz were asked for; where to look is in docs/bitstream.md",
    ]
    assert "v++ at work" in (workshop.root / "build/hw/u200/rtl/link.log").read_text()


def test_bitstream_with_the_hls_engine_and_another_clock(workshop):
    """A file of its own: both stay in the manifest, and the same build takes the place of its old entry."""
    succeed(workshop.run("hw"))
    workshop.calls()
    succeed(workshop.run("hw", "--engine", "hls", "--clock", "250"))
    name = "bertile_u200_hls"
    assert workshop.calls() == [
        compile_call("bertile_encoder", engine="hls", megahertz=250),
        compile_call("bertile_engine", engine="hls", megahertz=250),
        link_call(name, engine="hls", megahertz=250),
        info_call(name, engine="hls"),
    ]
    manifest = workshop.root / "bitstreams" / "manifest.toml"
    assert [(entry.file, entry.clock_asked_mhz) for entry in read_manifest(manifest)] == [
        ("bertile_u200.xclbin", 300),
        ("bertile_u200_hls.xclbin", 250),
    ]
    old_sum = read_manifest(manifest)[0].sha256
    succeed(workshop.run("hw", "--clock", "250"))
    entries = read_manifest(manifest)
    assert [(entry.file, entry.clock_asked_mhz) for entry in entries] == [
        ("bertile_u200.xclbin", 250),
        ("bertile_u200_hls.xclbin", 250),
    ]
    assert entries[0].sha256 != old_sum


def head_calls(flow: str = "hw") -> list[tuple]:
    """Every call of a build with the workshop's head."""
    up, folder = "../../../../..", f"build/{flow}/u200/rtl_head"
    head = "../../../../head/0123456789abcdef/kernel"
    words = f"-c -t {flow} --platform {PLATFORM} -k bertile_head --hls.clock 300000000:bertile_head"
    words += f" -I{up}/hls/include -I{up}/hls/head -I{head} -I{head}/network/firmware {V_OPTIONS}"
    words += f" -o bertile_head.xo {up}/hls/head/bertile_head.cpp {head}/network/firmware/bertile_head_network.cpp"
    others = [compile_call("bertile_encoder", flow, "rtl_head"), package_call(flow)]
    others[1] = (others[1][0], f"{folder}/bertile_engine", others[1][2])
    tool, place, link = link_call("bertile_u200_head", flow, "rtl_head")
    position = link.index("--kernel_frequency")
    link = [*link[:position], "--config", f"{up}/hls/link/u200_head.cfg", *link[position:], "../bertile_head.xo"]
    return [*others, ("v++", f"{folder}/bertile_head", words.split()), (tool, place, link)]


def test_bitstream_with_a_head(workshop):
    """A kernel, a link configuration and a file more; the manifest tells which head. A folder anywhere will do."""
    head = workshop.make_head()
    succeed(workshop.run("hw", "--head", str(head)))
    assert workshop.calls() == [*head_calls(), info_call("bertile_u200_head", "rtl_head")]
    succeed(workshop.run("hw"))
    assert workshop.calls() == HW_CALLS
    entries = read_manifest(workshop.root / "bitstreams" / "manifest.toml")
    assert [(entry.file, entry.kernels, entry.head) for entry in entries] == [
        ("bertile_u200_head.xclbin", ["bertile_encoder", "bertile_engine", "bertile_head"], "0123456789abcdef"),
        ("bertile_u200.xclbin", ["bertile_encoder", "bertile_engine"], ""),
    ]
    succeed(workshop.run("hw_emu", "--head", str(workshop.root / head)))
    assert workshop.calls()[:-1] == head_calls("hw_emu")


@pytest.mark.parametrize(
    "path",
    [
        "hls/head/bertile_head.cpp",
        "hls/head/bertile_head.hpp",
        "bertile_head_config.hpp",
        "network/firmware/bertile_head_network.cpp",
        "network/firmware/bertile_head_network.h",
        "network/firmware/defines.h",
        "network/firmware/weights/w2.h",
    ],
)
def test_changed_head_is_compiled_again(workshop, path):
    head = workshop.make_head()
    succeed(workshop.run("hw", "--head", str(head)))
    workshop.calls()
    with (workshop.root / (path if path.startswith("hls") else head / path)).open("a") as file:
        file.write("// changed\n")
    succeed(workshop.run("hw", "--head", str(head)))
    assert workshop.calls()[0] == head_calls()[2]  # a link follows where the stub's .xo is another one
    succeed(workshop.run("hw", "--head", str(head)))
    assert workshop.calls() == []


def test_another_head_takes_the_place_of_the_first(workshop):
    first, second = workshop.make_head(), workshop.make_head("FEDCBA9876543210")
    firmware = workshop.root / second / "network/firmware"
    (firmware / "bertile_head_network.cpp").write_text('#include "parameters.h"\n')
    for head in (first, second):
        succeed(workshop.run("hw", "--head", str(head)))
    (entry,) = read_manifest(workshop.root / "bitstreams" / "manifest.toml")
    assert (entry.file, entry.head) == ("bertile_u200_head.xclbin", "fedcba9876543210")
    assert len(workshop.calls()) == 5 + 3  # encoder and engine stay


def test_hardware_emulation(workshop):
    output = succeed(workshop.run("hw_emu"))
    assert workshop.calls() == [
        compile_call("bertile_encoder", flow="hw_emu"),
        package_call(flow="hw_emu"),
        link_call("bertile_u200", flow="hw_emu"),
        ("emconfigutil", "build/hw_emu/u200/rtl/emconfig", ["--platform", PLATFORM, "--od", "."]),
    ]
    assert output.endswith("wrote build/hw_emu/u200/rtl/bertile_u200.xclbin\n")
    assert (workshop.root / "build/hw_emu/u200/rtl/emconfig.json").is_file()
    assert not (workshop.root / "bitstreams" / "manifest.toml").exists()


def test_second_run_repeats_nothing(workshop):
    succeed(workshop.run("hw"))
    manifest = workshop.root / "bitstreams" / "manifest.toml"
    before = manifest.read_text(), manifest.stat().st_mtime_ns
    workshop.calls()
    output = succeed(workshop.run("hw"))
    assert workshop.calls() == []
    assert output.count("up to date") == 4
    assert output.endswith("unchanged: bitstreams/bertile_u200.xclbin, 300 MHz reached\n")
    assert (manifest.read_text(), manifest.stat().st_mtime_ns) == before


ENCODER, ENGINE, LINK, INFO = HW_CALLS


@pytest.mark.parametrize(
    ("path", "repeated"),
    [
        ("hls/kernels/bertile_encoder.cpp", [ENCODER, LINK, INFO]),
        ("hls/include/types.hpp", [ENCODER]),  # the stub's .xo does not depend on it: the link finds the same .xo
        ("hls/kernels/engine/arithmetic.hpp", [ENCODER]),  # by way of encoder/softmax.hpp
        ("hls/kernels/engine/mac_array.hpp", []),  # of the HLS engine only
        ("rtl/src/mac_cell.sv", [ENGINE]),
        ("rtl/syn/package_engine.tcl", [ENGINE]),
        ("hls/tb/tb_engine.cpp", []),
    ],
)
def test_changed_source_repeats_what_depends_on_it(workshop, path, repeated):
    succeed(workshop.run("hw"))
    workshop.calls()
    with (workshop.root / path).open("a") as file:
        file.write("// changed\n")
    succeed(workshop.run("hw"))
    assert workshop.calls() == repeated


def test_lost_product_and_other_tool_version_repeat(workshop):
    succeed(workshop.run("hw"))
    workshop.calls()
    (workshop.root / "build/hw/u200/rtl/bertile_engine.xo").unlink()
    succeed(workshop.run("hw"))
    assert workshop.calls() == [ENGINE]
    workshop.environment["STUB_VERSION_VIVADO"] = "2022.1.2"
    succeed(workshop.run("hw"))
    assert workshop.calls() == [ENGINE]
    bitstream = workshop.root / "bitstreams/bertile_u200.xclbin"
    whole = bitstream.read_text()
    for damage in (bitstream.unlink, lambda: bitstream.write_text("half")):
        damage()
        assert "wrote bitstreams/bertile_u200.xclbin" in succeed(workshop.run("hw"))
        assert bitstream.read_text() == whole
        assert workshop.calls() == []


@pytest.mark.parametrize(("task", "calls"), [("bertile_encoder", 1), ("bertile_engine", 2), ("link", 3), ("info", 4)])
def test_failing_tool(workshop, task, calls):
    """One line with the tool's error and the log; nothing at a final name; what was done stays done."""
    workshop.environment["STUB_FAIL"] = task
    error = fail(workshop.run("hw"))
    tool = HW_CALLS[calls - 1][0]
    log = f"build/hw/u200/rtl/{task}.log"
    assert error == (
        f"error: {task} failed, {tool} exited with 3: ERROR: [v++ 60-300] Failed to build kernel(ip) bertile, "
        f"see log for details (log: {log})\n"
    )
    assert (workshop.root / log).is_file()
    assert workshop.calls() == HW_CALLS[:calls]
    names = ["bertile_encoder.xo", "bertile_engine.xo", "bertile_u200.xclbin", "bertile_u200.xclbin.info"]
    left = [name for name in names if (workshop.root / "build/hw/u200/rtl" / name).exists()]
    assert left == names[: calls - 1]
    assert not list((workshop.root / "bitstreams").glob("*.xclbin"))
    del workshop.environment["STUB_FAIL"]
    succeed(workshop.run("hw"))
    assert workshop.calls() == HW_CALLS[calls - 1 :]


def test_failing_rebuild_keeps_the_old_bitstream(workshop):
    succeed(workshop.run("hw"))
    bitstreams = workshop.root / "bitstreams"
    before = {path.name: path.read_bytes() for path in bitstreams.iterdir()}
    with (workshop.root / "hls/kernels/bertile_encoder.cpp").open("a") as file:
        file.write("// changed\n")
    workshop.environment["STUB_FAIL"] = "link"
    fail(workshop.run("hw"))
    assert {path.name: path.read_bytes() for path in bitstreams.iterdir()} == before
    assert not (workshop.root / "build/hw/u200/rtl/bertile_u200.xclbin").exists()  # nobody takes it for the new one


def test_tool_that_leaves_nothing(workshop):
    workshop.environment["STUB_IDLE"] = "link"
    expected = "link failed, v++ left no bertile_u200.xclbin (log: build/hw/u200/rtl/link.log)"
    assert expected in fail(workshop.run("hw"))


def test_interrupted_link_leaves_nothing_and_no_process(workshop):
    workshop.environment["STUB_SLEEP"] = "link"
    process = workshop.start("hw")
    deadline = time.monotonic() + 30
    half = workshop.root / "build/hw/u200/rtl/link/bertile_u200.xclbin"
    while not half.exists() or not half.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")
    link = json.loads(workshop.record.read_text().splitlines()[-1])
    with pytest.raises(ProcessLookupError):
        os.kill(link["pid"], 0)
    assert not (workshop.root / "build/hw/u200/rtl/bertile_u200.xclbin").exists()
    assert not (workshop.root / "bitstreams/bertile_u200.xclbin").exists()
    workshop.calls()
    del workshop.environment["STUB_SLEEP"]
    succeed(workshop.run("hw"))
    assert workshop.calls() == [LINK, INFO]


@pytest.mark.parametrize(
    "arguments",
    [["hw"], ["hw", "--engine", "hls", "--clock", "250"], ["hw_emu"], ["hw", "--head", "a head/kernel"]],
    ids=" ".join,
)
def test_dry_run_is_what_is_executed(workshop, tmp_path, arguments):
    """It needs no tool and writes nothing; its lines, typed into a shell, do what the command does."""
    (workshop.root / workshop.make_head()).parent.rename(workshop.root / "a head")
    shutil.rmtree(workshop.root / "build")
    path = workshop.environment["PATH"]
    workshop.environment["PATH"] = "/usr/bin:/bin"
    lines = succeed(workshop.run(*arguments, "--dry-run"))
    assert workshop.calls() == []
    assert not (workshop.root / "build").exists()
    assert lines.startswith("# needs Vitis 2022.1: v++, vivado, ")
    workshop.environment["PATH"] = path
    succeed(workshop.run(*arguments))
    executed, entries = workshop.calls(), read_manifest(workshop.root / "bitstreams/manifest.toml")
    shutil.rmtree(workshop.root / "build")
    (workshop.root / "bitstreams/manifest.toml").unlink(missing_ok=True)
    python = workshop.root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    subprocess.run(
        ["bash", "-e"],
        input=lines,
        text=True,
        check=True,
        cwd=workshop.root,
        env=workshop.environment,
        capture_output=True,
        timeout=60,
    )
    assert workshop.calls() == executed
    assert read_manifest(workshop.root / "bitstreams/manifest.toml") == entries


def test_recording_refuses_what_was_not_built_so(workshop):
    assert "no build/hw/u200/rtl/bertile_u200.xclbin: it comes from `make hw`" in fail(workshop.run("record"))
    succeed(workshop.run("hw"))
    error = fail(workshop.run("record", "--clock", "250"))
    assert error == "error: bertile_u200.xclbin was linked for 300 MHz, not for 250 MHz\n"


def ports(**others: int) -> str:
    """Every port of every HLS kernel with its width; of the encoder, other ones."""
    widths = {}
    for kernel in load_kernels().values():
        widths[kernel.name] = {f"{stream.name}_TDATA": stream.bits for stream in kernel.streams}
        for argument in kernel.arguments:
            bits = {"bertile::Beat": 512, "bertile::Word": 256}.get(argument.type)
            widths[kernel.name] |= {f"m_axi_{argument.port}_{signal}": bits for signal in ("RDATA", "WDATA")}
    widths["bertile_encoder"] |= others
    return json.dumps(widths)


def test_synthesis_reports(workshop):
    workshop.environment["STUB_PORTS"] = ports()
    output = succeed(workshop.run("csynth"))
    up, calls = "../../..", workshop.calls()
    kernels = [folder.rsplit("/", 1)[1] for _, folder, _ in calls]
    assert kernels == ["bertile_encoder", "bertile_engine"]
    for kernel, call in zip(kernels, calls, strict=True):
        words = f"-f {up}/hls/link/csynth.tcl -tclargs {kernel} xcu200-fsgd2104-2-e 3.333"
        words += f" {up}/hls/kernels/{kernel}.cpp {up}/hls/include {up}/hls/kernels"
        assert call == ("vitis_hls", f"build/csynth/{kernel}", words.split())
    summary = json.loads((workshop.root / "build/csynth/summary.json").read_text())
    assert (summary["target"], summary["megahertz"], summary["spec_digest"]) == ("u200", 300, load_spec().digest)
    report = summary["kernels"]["bertile_encoder"]
    assert report["area"] == {"lut": 55711, "ff": 19995, "dsp": 34, "bram_18k": 14, "uram": 8}
    assert (report["estimated_period_ns"], report["latency"]) == (2.431, [None, 1027])
    assert [(loop["loop"], loop["ii"]) for loop in report["loops"]] == [
        ("Outer_Loop", None),
        ("Inner_Loop", 2),
        ("Fast_Loop", 1),
    ]
    assert "bertile_encoder       2.431    55711    19995     34        14     8       1\n" in output
    assert "  II 2: Stage, Inner_Loop\n" in output
    succeed(workshop.run("csynth"))
    assert workshop.calls() == []


def test_synthesis_report_of_a_head(workshop):
    """The head's kernel alone is new; its ports are compared, too."""
    workshop.environment["STUB_PORTS"] = ports()
    succeed(workshop.run("csynth"))
    workshop.calls()
    head = workshop.make_head()
    succeed(workshop.run("csynth", "--head", str(head)))
    up, head_up = "../../..", f"../../{head.relative_to('build')}"
    words = f"-f {up}/hls/link/csynth.tcl -tclargs bertile_head xcu200-fsgd2104-2-e 3.333"
    words += f" {up}/hls/head/bertile_head.cpp {head_up}/network/firmware/bertile_head_network.cpp"
    words += f" {up}/hls/include {up}/hls/head {head_up} {head_up}/network/firmware"
    assert workshop.calls() == [("vitis_hls", "build/csynth/bertile_head", words.split())]
    summary = json.loads((workshop.root / "build/csynth/summary.json").read_text())
    assert list(summary["kernels"]) == ["bertile_encoder", "bertile_engine", "bertile_head"]
    shutil.rmtree(workshop.root / "build/csynth")
    widths = json.loads(ports())
    widths["bertile_head"]["m_axi_gmem1_RDATA"] = 512
    workshop.environment["STUB_PORTS"] = json.dumps(widths)
    expected = "other ports than spec/kernels.toml: bertile_head: m_axi_gmem1_RDATA has 512 bits, not 256\n"
    assert fail(workshop.run("csynth", "--head", str(head))).endswith(expected)


def test_synthesized_port_of_another_width_is_refused(workshop):
    workshop.environment["STUB_PORTS"] = ports(engine_results_TDATA=544, m_axi_gmem3_WDATA=512)
    assert fail(workshop.run("csynth")) == (
        "error: Vitis HLS sees other ports than spec/kernels.toml: "
        "bertile_encoder: engine_results_TDATA has 544 bits, not 512; "
        "bertile_encoder: m_axi_gmem3_WDATA has 512 bits, not 256\n"
    )
