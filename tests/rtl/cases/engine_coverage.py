"""Runs last: the stimuli of all tests before it have reached every bin."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.coverage import COVERAGE


@cocotb.test()
async def coverage(dut) -> None:
    cocotb.log.info("coverage\n%s", COVERAGE.report())
    assert not COVERAGE.missing(), "never reached: " + "; ".join(COVERAGE.missing())
