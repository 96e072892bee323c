"""The host's numbers of the kernel's arguments are those of spec/kernels.toml."""

from __future__ import annotations

import re

from bertile.codegen.views import camel
from bertile.config.kernels import ENCODER, load_kernels
from bertile.config.paths import ROOT

ARGUMENTS = [argument.name for argument in load_kernels()[ENCODER].arguments]


def test_the_runtime_counts_arguments_as_the_kernel_has_them():
    header = (ROOT / "host" / "runtime" / "card.hpp").read_text()
    (names,) = re.findall(r"enum EncoderArgument \{(.*?)\}", header, re.DOTALL)
    assert [name.strip() for name in names.split(",")] == [f"k{camel(name)}" for name in ARGUMENTS]


def test_the_images_of_a_model_are_arguments():
    from bertile.runtime.card import IMAGES

    assert list(IMAGES) == ARGUMENTS[: len(IMAGES)]


def test_no_argument_is_a_word_of_verilog():
    assert not {"input", "output", "inout", "reg", "wire", "parameter", "signed"} & set(ARGUMENTS)
