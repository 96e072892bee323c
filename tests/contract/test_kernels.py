"""Every party names the same kernels, arguments, ports, streams and banks as spec/kernels.toml; and the comparison
notices when one of them does not.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace

import pytest

from bertile.codegen.views import sizes
from bertile.config.kernels import ENCODER, ENGINE, HEAD, load_kernels, load_link
from bertile.config.paths import HLS_DIR, ROOT, RTL_DIR
from bertile.config.spec import load_spec
from bertile.devices.verilate import rtl_sources, verilator_root
from bertile.head.folder import KERNEL_SOURCE
from bertile.vitis.crosscheck import check_hls, check_link, check_packaging, check_rtl, rtl_ports
from bertile.vitis.flow import make_build, package_step
from bertile.vitis.sources import PACKAGE_SCRIPT, hls_sources
from bertile.vitis.views import config_path, wrapper_path

LINK = load_link("u200")
CONSTANTS = {"".join(part.capitalize() for part in name.split("_")): value for name, value in sizes(load_spec())}
HLS_KERNELS = [kernel for kernel in load_kernels().values() if kernel.language != "rtl"]
ENGINE_SV = (RTL_DIR / "src" / "bertile_engine.sv").read_text()
CONFIG = config_path("u200").read_text()


def type_bits() -> dict[str, int]:
    """Bits of the structs of lanes and bytes in types.hpp."""
    structs = re.findall(r"struct (\w+) \{\s*u?int(\d+)_t \w+\[k(\w+)\];", (HLS_DIR / "include/types.hpp").read_text())
    return {f"bertile::{name}": int(bits) * CONSTANTS[count] for name, bits, count in structs}


def texts(kernel) -> tuple[str, str]:
    """Header and all sources of an HLS kernel, its own one first."""
    source = ROOT / kernel.source
    header = source.with_suffix(".hpp")
    others = [path for path in hls_sources(kernel) if path not in (source, header)]
    return header.read_text(), "\n".join(path.read_text() for path in (source, *others))


def test_types_have_the_widths_of_memory_and_streams():
    assert type_bits() == {"bertile::Word": 256, "bertile::WideWord": 512, "bertile::Beat": 512}


@pytest.mark.parametrize("kernel", HLS_KERNELS, ids=lambda kernel: kernel.name)
def test_hls_kernel(kernel):
    assert check_hls(kernel, *texts(kernel), type_bits()) == []


@pytest.mark.parametrize("kernel", HLS_KERNELS, ids=lambda kernel: kernel.name)
def test_argument_types_are_as_wide_as_their_port(kernel):
    """A memory port has one width: arguments of one bundle have types of the same size."""
    widths = {port: set() for port in kernel.memory_ports}
    for argument in kernel.arguments:
        widths[argument.port].add(type_bits()[argument.type])
    assert all(len(found) == 1 for found in widths.values()), widths


def test_rtl_engine():
    assert check_rtl(LINK.kernels[ENGINE], ENGINE, ENGINE_SV, CONSTANTS) == []


def test_packaged_module():
    path = wrapper_path()
    assert check_rtl(LINK.kernels[ENGINE], path.stem, path.read_text(), {}) == []
    step = package_step(make_build("hw", "u200", "rtl", None, None), LINK.kernels[ENGINE])
    assert check_packaging(LINK.kernels[ENGINE], step.command, PACKAGE_SCRIPT.read_text()) == []


def test_packaged_module_around_the_engine_elaborates():
    """Verilator finds no unequal width and no port left open."""
    root = verilator_root()
    command = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--top-module", wrapper_path().stem]
    command += [str(path) for path in (RTL_DIR / "lint.vlt", *rtl_sources(), wrapper_path())]
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")


def test_link_configuration():
    assert check_link(LINK, LINK.kernels[ENCODER], LINK.kernels[ENGINE], CONFIG) == []


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1)


ENCODER_CHANGES = [
    # header and source alike: (old, new, what the complaint says)
    ("const bertile::Beat* weights", "bertile::Beat* weights", "weights is pointer bertile::Beat write"),
    ("const bertile::Word* input_words", "const bertile::Beat* input_words", "input_words is pointer .*Beat read"),
    ("bertile::Beat* status,", "bertile::Beat* state,", "parameters .*state"),
    (
        "bertile::Stream<bertile::WideWord>& engine_results",
        "bertile::Stream<bertile::Word>& engine_results",
        "256 bits",
    ),
    ("bertile::Stream<bertile::Beat>& engine_tiles, ", "", "parameters"),
]


@pytest.mark.parametrize(("old", "new", "complaint"), ENCODER_CHANGES)
def test_changed_signature_is_noticed(old, new, complaint):
    kernel = LINK.kernels[ENCODER]
    header, sources = (re.sub(r",\s+", ", ", text) for text in texts(kernel))
    found = check_hls(kernel, changed(header, old, new), changed(sources, old, new), type_bits())
    assert re.search(complaint, "\n".join(found))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("port = weights bundle = gmem1", "port = weights bundle = gmem2", "the pragma of weights"),
        ("port = status bundle = gmem0 offset = slave", "port = status bundle = gmem0", "the pragma of status"),
        (
            "INTERFACE axis port = engine_words",
            "INTERFACE ap_fifo port = engine_words",
            "no axis pragma for engine_words",
        ),
        ("#pragma HLS INTERFACE axis port = engine_tiles\n", "", "no axis pragma for engine_tiles"),
        ("axis port = engine_tiles", "axis port = engine_tile", "engine_tile, which is no port"),
        ("axis port = engine_tiles", "axis port = engine_words", "no axis pragma for engine_tiles"),
        ("INTERFACE s_axilite port = return", "INTERFACE ap_ctrl_none port = return", "means ap_ctrl_none"),
        ("tiles.write(weights[request.offset + i])", "tiles.read()", "engine_tiles is used as in"),
        ("const WideWord word = results.read();", "const WideWord word = {};", "engine_results is used as nothing"),
        ("ports_.engine.write(beat);", "ports_.engine.read();", "engine_commands is used as in"),
    ],
)
def test_changed_source_is_noticed(old, new, complaint):
    kernel = LINK.kernels[ENCODER]
    header, sources = texts(kernel)
    found = check_hls(kernel, header, changed(sources, old, new), type_bits())
    assert re.search(complaint, "\n".join(found))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("const bertile::Word* words", "const bertile::Beat* words", "words is pointer bertile::Beat read"),
        ("bertile::Beat* logits", "const bertile::Beat* logits", "logits is pointer bertile::Beat read"),
        ("bertile::Beat* status", "bertile::Beat* state", "parameters .*state"),
        ("port = words bundle = gmem1", "port = words bundle = gmem0", "the pragma of words"),
        ("#pragma HLS INTERFACE m_axi port = logits bundle = gmem0 offset = slave\n", "", "the pragma of logits"),
        ("INTERFACE s_axilite port = return", "INTERFACE ap_ctrl_none port = return", "means ap_ctrl_none"),
    ],
)
def test_changed_head_is_noticed(old, new, complaint):
    kernel = LINK.optional[HEAD]
    header, sources = (re.sub(r",\s+", ", ", text) for text in texts(kernel))
    assert check_hls(kernel, header, sources, type_bits()) == []
    found = check_hls(kernel, header.replace(old, new), changed(sources, old, new), type_bits())
    assert re.search(complaint, "\n".join(found))


def test_built_head_is_compiled_with_the_source_of_the_spec():
    assert ROOT / LINK.optional[HEAD].source == KERNEL_SOURCE


def test_signatures_that_differ_are_noticed():
    kernel = LINK.kernels[ENGINE]
    header, sources = texts(kernel)
    found = check_hls(kernel, changed(header, "& tiles", "& packets"), sources, type_bits())
    assert found == ["bertile_engine: header and source declare different functions, or none"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("input  logic [OUTPUTS*32-1:0] tiles_tdata", "output logic [OUTPUTS*32-1:0] tiles_tdata", "tiles_tdata is"),
        ("output logic                  tiles_tready", "input  logic                  tiles_tready", "tiles_tready is"),
        ("[OUTPUTS*32-1:0] tiles_tdata", "[OUTPUTS*16-1:0] tiles_tdata", r"\('input', 256\) instead of"),
        ("output logic [TOKENS*16-1:0] results_tdata", "output logic [TOKENS*8-1:0] results_tdata", "256"),
        ("OUTPUTS    = bertile_pkg::ArrayOutputs", "OUTPUTS    = 8", r"\('input', 256\) instead of"),
        ("words_tvalid,", "word_tvalid,", "words_tvalid is None"),
        ("input logic ap_rst_n,", "input logic ap_rst,", "ap_rst is"),
        ("input logic ap_clk,", "input logic ap_clk, input logic clk_2,", "clk_2 is"),
    ],
)
def test_changed_rtl_port_is_noticed(old, new, complaint):
    found = check_rtl(LINK.kernels[ENGINE], ENGINE, changed(ENGINE_SV, old, new), CONSTANTS)
    assert re.search(complaint, "\n".join(found))


def test_widths_come_from_the_default_parameters():
    ports = rtl_ports(ENGINE, ENGINE_SV, CONSTANTS)
    assert ports["tiles_tdata"] == ("input", 512)
    assert ports["words_tready"] == ("output", 1)
    assert len(ports) == 2 + 3 * len(LINK.kernels[ENGINE].streams)
    assert rtl_ports(ENGINE, ENGINE_SV, {**CONSTANTS, "WordTokens": 16})["results_tdata"] == ("output", 256)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("nk=bertile_engine:3:", "nk=bertile_engine:2:", "nk=bertile_engine:2:.* is not in spec"),
        ("nk=bertile_encoder:", "nk=bertile_encode:", "nk=bertile_encoder:.* is missing"),
        ("slr=engine_2:SLR1", "slr=engine_2:SLR2", "slr=engine_2:SLR1 is missing"),
        ("sp=encoder_1.m_axi_gmem0:DDR[0]", "sp=encoder_1.m_axi_gmem0:DDR[1]", r"DDR\[1\] is not in spec"),
        ("sp=encoder_3.m_axi_gmem3:DDR[3]\n", "", "sp=encoder_3.m_axi_gmem3.* is missing"),
        ("m_axi_gmem2", "m_axi_gmem4", "gmem4.* is not in spec"),
        ("encoder_1.engine_tiles:engine_1.tiles", "engine_1.tiles:encoder_1.engine_tiles", "not from an output"),
        (
            "encoder_1.engine_tiles:engine_1.tiles",
            "encoder_1.engine_tiles:engine_1.words",
            "engine_1.words is connected 2",
        ),
        ("encoder_2.engine_words:", "encoder_2.engine_word:", "a port that no kernel has"),
        ("stream_connect=engine_3.results:encoder_3.engine_results:64\n", "", "engine_3.results is not connected"),
        ("engine_2.words:2048", "engine_2.words:1024", "no such stream with this depth"),
        ("engine_2.words:2048", "engine_2.words", "no such stream with this depth"),
        ("engine_1.commands:16", "engine_2.commands:16", "no such stream"),
        ("slr=encoder_1:SLR0\n", "slr=encoder_1:SLR0\nslr=encoder_1:SLR0\n", "is there twice"),
        ("# Unit 1", "connect=a:b", "connect=a:b is nothing a link has"),
    ],
)
def test_changed_link_is_noticed(old, new, complaint):
    found = check_link(LINK, LINK.kernels[ENCODER], LINK.kernels[ENGINE], changed(CONFIG, old, new))
    assert re.search(complaint, "\n".join(found))


def test_unequal_widths_and_an_unknown_bank_are_noticed():
    encoder, engine = LINK.kernels[ENCODER], LINK.kernels[ENGINE]
    narrow = replace(engine, streams=tuple(replace(stream, bits=256) for stream in engine.streams))
    assert "512 bits to 256" in "\n".join(check_link(LINK, encoder, narrow, CONFIG))
    poor = replace(LINK, banks={name: size for name, size in LINK.banks.items() if name != "DDR[3]"})
    assert check_link(poor, encoder, engine, CONFIG) == ["encoder_3: no bank DDR[3]"]


@pytest.mark.parametrize(
    ("change_command", "change_script", "complaint"),
    [
        (("results:master", "results:slave"), None, "packaged with"),
        (("tiles:slave", "tile:slave"), None, "packaged with"),
        ((ENGINE, "engine"), None, "does not name bertile_engine"),
        (None, ("{ctrl_protocol ap_ctrl_none}", "{ctrl_protocol ap_ctrl_hs}"), "ap_ctrl_hs"),
    ],
)
def test_changed_packaging_is_noticed(change_command, change_script, complaint):
    step = package_step(make_build("hw", "u200", "rtl", None, None), LINK.kernels[ENGINE])
    old, new = change_command or ("", "")
    command = [new if word == old else word for word in step.command]
    script = PACKAGE_SCRIPT.read_text()
    script = changed(script, *change_script) if change_script else script
    assert re.search(complaint, "\n".join(check_packaging(LINK.kernels[ENGINE], command, script)))


def test_optional_kernel_is_linked_by_a_configuration_of_its_own():
    """With memory ports of its unit's bank, in that bank's region."""
    assert config_path("u200", HEAD).name == "u200_head.cfg"
    assert config_path("u200", HEAD).read_text().splitlines()[1:] == [
        "[connectivity]",
        "nk=bertile_head:3:head_1.head_2.head_3",
        "",
        "slr=head_1:SLR0",
        "sp=head_1.m_axi_gmem0:DDR[0]",
        "sp=head_1.m_axi_gmem1:DDR[0]",
        "",
        "slr=head_2:SLR1",
        "sp=head_2.m_axi_gmem0:DDR[1]",
        "sp=head_2.m_axi_gmem1:DDR[1]",
        "",
        "slr=head_3:SLR2",
        "sp=head_3.m_axi_gmem0:DDR[3]",
        "sp=head_3.m_axi_gmem1:DDR[3]",
    ]


def test_optional_kernel_is_in_no_link_by_itself():
    assert (list(LINK.kernels), list(LINK.optional)) == ([ENCODER, ENGINE], [HEAD])
    assert "head" not in CONFIG
