"""The manifest, the tools' reports, and the Tcl scripts in an interpreter that records the tools' commands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bertile.errors import BertileError
from bertile.vitis.manifest import Bitstream, read_manifest, record, render, sha256_of
from bertile.vitis.reports import parse_csynth, parse_link_info
from bertile.vitis.sources import CSYNTH_SCRIPT, PACKAGE_SCRIPT
from bertile.vitis.tools import BANNER

KERNELS = ["bertile_encoder", "bertile_engine"]
ENTRY = Bitstream(
    "bertile_u200.xclbin",
    "u200",
    "rtl",
    KERNELS,
    "",
    "platform",
    "a" * 64,
    "v++ 2022.1",
    300,
    287.5,
    "b" * 64,
    "2022-06-01",
)


def test_manifest_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "manifest.toml"
    assert read_manifest(path) == []
    entries = [
        ENTRY,
        replace(ENTRY, file="bertile_u200_hls.xclbin", engine="hls", clock_reached_mhz=300.0, head="0123456789abcdef"),
    ]
    path.write_text(render(entries))
    assert read_manifest(path) == entries
    path.write_text(render([]))
    assert read_manifest(path) == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('engine = "rtl"\n', "", "missing key engine in"),
        ('engine = "rtl"', 'engine = "rtl"\ncolour = "red"', "unknown key colour in"),
        ("[[bitstream]]", "[[bitstreams]]", "unknown key bitstreams"),
        ("[[bitstream]]", "[bitstream]", "bitstream is not a list"),
        ("clock_asked_mhz = 300", 'clock_asked_mhz = "300"', "clock_asked_mhz is not of type float"),
        ("clock_asked_mhz = 300", "clock_asked_mhz = true", "clock_asked_mhz is not of type float"),
        ('["bertile_encoder", "bertile_engine"]', "[1, 2]", r"kernels is not of type list\[str\]"),
        ("b" * 64, "b" * 63, "sha256 of bertile_u200.xclbin is not 64"),
        ("a" * 64, "A" * 64, "spec_digest of bertile_u200.xclbin is not 64"),
        ('head = ""', 'head = "0123456789abcde"', "head of bertile_u200.xclbin is not 16"),
        ('head = ""', 'head = "0123456789ABCDEF"', "head of bertile_u200.xclbin is not 16"),
        ('head = ""\n', "", "missing key head in"),
        ("[[bitstream]]", "[[bitstream", "is not TOML"),
    ],
)
def test_manifest_that_is_not_one_is_refused(tmp_path, old, new, error):
    path = tmp_path / "manifest.toml"
    text = render([ENTRY])
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(BertileError, match=error) as raised:
        read_manifest(path)
    assert "\n" not in str(raised.value).strip()


def test_file_that_is_listed_twice_is_refused(tmp_path):
    path = tmp_path / "manifest.toml"
    path.write_text(render([ENTRY, ENTRY]))
    with pytest.raises(BertileError, match="is there 2 times"):
        read_manifest(path)


def test_record_touches_nothing_when_the_manifest_is_broken(tmp_path):
    xclbin, path = tmp_path / "new.xclbin", tmp_path / "bitstreams" / "manifest.toml"
    xclbin.write_text("new")
    path.parent.mkdir()
    path.write_text("colour = 1\n")
    with pytest.raises(BertileError, match="unknown key colour"):
        record(xclbin, replace(ENTRY, sha256=sha256_of(xclbin)), path)
    assert [file.name for file in path.parent.iterdir()] == ["manifest.toml"]
    assert path.read_text() == "colour = 1\n"


def test_value_that_toml_would_have_to_escape_is_refused():
    with pytest.raises(BertileError, match="cannot stand in the manifest"):
        render([replace(ENTRY, tool='v++ "2022.1"')])


CLOCKS = """\
Scalable Clocks
---------------
   Name:      DATA_CLK
   Index:     0
   Type:      DATA
   Frequency: 287 MHz

   Name:      KERNEL_CLK
   Index:     1
   Type:      KERNEL
   Frequency: 500 MHz

System Clocks
------
   Name:           ulp_ucs_aclk_kernel_01 \n   Type:           SCALABLE \n   Default Freq:   500 MHz
   Requested Freq: 500 MHz
   Achieved Freq:  500 MHz

   Name:           ulp_ucs_aclk_kernel_00 \n   Type:           SCALABLE \n   Default Freq:   300 MHz
   Requested Freq: 300 MHz
   Achieved Freq:  287.3 MHz
"""


def test_clock_of_the_kernels():
    info = parse_link_info(CLOCKS + "   Version:       2022.1 - 2022-04-13-17:42:45 (SW BUILD: 3524075)\n")
    assert (info.tool, info.asked, info.reached) == ("v++ 2022.1 (SW build 3524075)", 300, 287.3)
    without_system = CLOCKS.split("System Clocks")[0] + "System Clocks\n------\n   No system clock data available.\n"
    info = parse_link_info(without_system)
    assert (info.tool, info.asked, info.reached) == ("v++, unknown version", None, 287)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("287.3 MHz", "287.3 GHz", "cannot be read"),
        ("287.3 MHz", "0 MHz", "cannot be read"),
        ("   Requested Freq: 300 MHz\n", "", "cannot be read"),
        (CLOCKS, "   No scalable clock data available.\n", "names no clock"),
    ],
)
def test_information_without_the_clock_is_refused(old, new, error):
    assert CLOCKS.count(old) == 1
    with pytest.raises(BertileError, match=error):
        parse_link_info(CLOCKS.replace(old, new))


@pytest.mark.parametrize(("text", "error"), [("<profile>", "is not XML"), ("<profile/>", "not one of csynth_design")])
def test_report_that_is_none_is_refused(text, error):
    with pytest.raises(BertileError, match=error):
        parse_csynth(text)


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("****** v++ v2022.1 (64-bit)", "2022.1"),
        ("Vivado v2022.1.2 (64-bit)", "2022.1.2"),
        ("vivado v2023.2 (64-bit)", "2023.2"),
        ("****** Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v2022.1 (64-bit)", "2022.1"),
    ],
)
def test_banner(banner, version):
    found = BANNER.search(f"\n{banner}\n  **** SW Build 3524075 on 2022-04-13-17:42:45\n")
    assert found[1] + (found[2] or "") == version


def run_tcl(script: Path, argv: list[str], answers: dict[str, str], namespaces: tuple[str, ...] = ()) -> list[str]:
    """The commands of the tool that a script calls, with their words. Commands in `answers` give that."""
    tkinter = pytest.importorskip("tkinter", reason="Python was built without Tcl", exc_type=ImportError)
    interpreter, calls = tkinter.Tcl(), []

    def unknown(*words: str) -> str:
        calls.append(" ".join(words))
        return next((value for start, value in answers.items() if calls[-1].startswith(start)), words[0])

    interpreter.createcommand("bertile_unknown", unknown)
    interpreter.eval("proc unknown {args} {return [bertile_unknown {*}$args]}")
    for namespace in namespaces:
        interpreter.eval(f"namespace eval {namespace} {{}}")
    interpreter.setvar("argv", " ".join(argv))
    interpreter.eval(script.read_text())
    return calls


PACKAGE_ARGUMENTS = [
    "engine.xo",
    "part",
    "bertile_engine",
    str(PACKAGE_SCRIPT.parents[1]),
    "tiles:slave",
    "results:master",
]
MODES = {"get_property interface_mode tiles": "slave", "get_property interface_mode results": "master"}
FIND = "ipx::get_bus_interfaces"
INTERFACES = {f"{FIND} tiles": "tiles", f"{FIND} results": "results"}


def test_packaging_script():
    """It finds its arguments with and without what stands before -tclargs, takes all sources, and packages."""
    for argv in (PACKAGE_ARGUMENTS, ["-mode", "batch", "-tclargs", *PACKAGE_ARGUMENTS]):
        calls = run_tcl(PACKAGE_SCRIPT, argv, {**INTERFACES, **MODES, "ipx::current_core": "core"}, ("ipx",))
        assert calls[0] == "create_project -force package ./project -part part"
        assert calls[1].count(".sv") == len(list((PACKAGE_SCRIPT.parents[1]).glob("*/*.sv")))
        assert calls[1].endswith("/syn/bertile_engine_kernel.v")
        assert calls[1].index("bertile_pkg.sv") < calls[1].index("engine_pkg.sv") < calls[1].index("mac_array.sv")
        assert "ipx::associate_bus_interfaces -busif tiles -clock ap_clk core" in calls
        assert "ipx::associate_bus_interfaces -busif results -clock ap_clk core" in calls
        assert "ipx::associate_bus_interfaces -clock ap_clk -reset ap_rst_n core" in calls
        assert calls[-2] == (
            "package_xo -force -xo_path engine.xo -kernel_name bertile_engine -ctrl_protocol ap_ctrl_none "
            "-ip_directory ./ip -output_kernel_xml ./kernel.xml"
        )


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({f"{FIND} tiles": ""}, "ERROR: no stream tiles on bertile_engine_kernel"),
        (
            {"get_property interface_mode tiles": "master"},
            "ERROR: stream tiles of bertile_engine_kernel is master, not",
        ),
    ],
)
def test_packaging_script_stops_at_a_stream_that_is_not_there(answers, error):
    with pytest.raises(Exception, match=re.escape(error)):
        run_tcl(PACKAGE_SCRIPT, PACKAGE_ARGUMENTS, {**INTERFACES, **MODES, **answers}, ("ipx",))


def test_synthesis_script(tmp_path):
    arguments = ["bertile_head", "part", "3.333", "head.cpp", "network.cpp", str(tmp_path), "/include"]
    calls = run_tcl(CSYNTH_SCRIPT, ["-f", "csynth.tcl", "-tclargs", *arguments], {})
    assert calls == [
        "open_project -reset project",
        "set_top bertile_head",
        f"add_files head.cpp -cflags -I{tmp_path} -I/include",
        f"add_files network.cpp -cflags -I{tmp_path} -I/include",
        "open_solution -reset solution -flow_target vitis",
        "set_part part",
        "create_clock -period 3.333 -name default",
        "csynth_design",
        "exit",
    ]
