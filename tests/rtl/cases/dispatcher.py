"""Commands checked and handed out: what is skipped, what is blank, what is loaded, for numbers around every limit."""

from __future__ import annotations

import random

import cocotb
from tests.rtl.bench.module import Module, packed_struct, parameter
from tests.rtl.bench.shape import COMMAND, INPUTS, SPEC, encode_command

OPCODE, FLAG, CAPACITY = SPEC.engine_opcode, SPEC.flag, SPEC.capacity
MODES = {OPCODE.gemm: 0, OPCODE.scores: 1, OPCODE.context: 2, OPCODE.halt: 3}
LARGEST = max(CAPACITY.head_sizes)
# Fields and bits of execute_command_t, its requantize_t in one with it.
EXECUTE = {"reload": 1, "blank": 1, "is_unsigned": 1, "await_peer_1": 32, "await_peer_0": 32, "await_words": 32}
EXECUTE |= {"base": 16, "stride": 16, "rows": 8}
EXECUTE |= {"tiles": 16, "groups": 16, "mode": 2, "entry": 4, "row_scale_slot": 2, "shift": 6, "multiplier": 16}
EXECUTE |= {"limit_low": 16, "limit_high": 16}


def random_command(rng: random.Random, outputs: int) -> dict[str, int]:
    """A legal command, then often one or two numbers at a limit or past it."""
    opcode = rng.choice([OPCODE.gemm, OPCODE.scores, OPCODE.context])
    keys, head_size = rng.randint(1, CAPACITY.tokens), outputs * rng.randint(1, LARGEST // outputs)
    fields = {name: rng.getrandbits(8 * size.itemsize) for name, (size, _) in COMMAND.dtype.fields.items()}
    fields |= {"limit_low": rng.randint(-32768, 0), "limit_high": rng.randint(0, 32767)}
    fields |= {"opcode": opcode, "keys": keys, "head_size": head_size, "row_first": rng.randint(0, 15)}
    fields["row_count"] = rng.randint(1, SPEC.row_blocks - fields["row_first"])
    fields["tiles"] = -(-keys // outputs) if opcode == OPCODE.scores else head_size // outputs
    fields["shift"], fields["row_scale_slot"] = rng.randint(0, SPEC.law.shift_max), rng.randrange(3)
    limits = {
        "opcode": [0, 4, 7, 255],
        "row_first": [0, 15, 16, 255],
        "row_count": [0, 1, 16, 17, 255],
        "keys": [0, 1, CAPACITY.tokens, CAPACITY.tokens + 1, 65535, keys + 1],
        "head_size": [0, head_size + 1, LARGEST, LARGEST + outputs, 128, 255],
        "tiles": [0, 1, fields["tiles"] - 1, fields["tiles"] + 1, 256 + fields["tiles"], 65535],
        "shift": [0, SPEC.law.shift_max, SPEC.law.shift_max + 1, 64, 255],
        "row_scale_slot": [0, 2, 3, 4, 256, 65535],
    }
    for name in rng.sample(sorted(limits), rng.choice([0, 0, 1, 1, 2])):
        fields[name] = rng.choice(limits[name])
    return fields


def is_blank(fields: dict[str, int], outputs: int) -> bool:
    """Of a known opcode, with tiles and row blocks: a count or size out of range."""
    if fields["row_first"] + fields["row_count"] > SPEC.row_blocks:
        return True
    if fields["opcode"] == OPCODE.gemm:
        return False
    keys, head_size = fields["keys"], fields["head_size"]
    tiles = -(-keys // outputs) if fields["opcode"] == OPCODE.scores else head_size // outputs
    return (
        not 1 <= keys <= CAPACITY.tokens
        or not 1 <= head_size <= LARGEST
        or head_size % outputs != 0
        or fields["tiles"] != tiles
        or fields["shift"] > SPEC.law.shift_max
        or (fields["opcode"] == OPCODE.context and fields["row_scale_slot"] >= CAPACITY.probability_slots)
    )


def expected_load(fields: dict[str, int]) -> int:
    widths = {"tiles": 16, "await_weight": 32, "weight": 16, "weight_stride": 16, "keys": 10, "head_size": 7}
    return packed_struct((MODES[fields["opcode"]], 2), *((fields[name], bits) for name, bits in widths.items()))


def check_execute(got: int, fields: dict[str, int], blank: bool) -> None:
    """Every field that matters for this command."""
    parts = {}
    for name, bits in reversed(EXECUTE.items()):
        parts[name], got = got & (1 << bits) - 1, got >> bits
    opcode, flags = fields["opcode"], fields["flags"]
    expected = {"mode": MODES[opcode]}
    expected |= {name: fields[name] for name in ("await_words", "await_peer_0", "await_peer_1")}
    if opcode != OPCODE.halt:
        expected |= {"blank": blank, "rows": fields["row_count"], "tiles": fields["tiles"]}
        expected |= {name: fields[name] & 65535 for name in ("limit_low", "limit_high")}
        expected["is_unsigned"] = flags >> FLAG.unsigned_source & 1
        if not blank:
            base = fields["source"] + fields["row_first"] * fields["source_stride"]
            expected |= {"base": base & 65535, "stride": fields["source_stride"]}
        if opcode != OPCODE.gemm:
            inputs = fields["head_size"] if opcode == OPCODE.scores else fields["keys"]
            expected["reload"] = flags >> FLAG.reload & 1
            if not blank:
                expected |= {"groups": -(-inputs // INPUTS), "shift": fields["shift"]}
            if opcode == OPCODE.scores:
                expected["multiplier"] = fields["multiplier"]
            elif not blank:
                expected["row_scale_slot"] = fields["row_scale_slot"]
    assert {name: parts[name] for name in expected} == expected, fields


@cocotb.test()
@cocotb.parametrize(share=[1.0, 0.3])
async def commands(dut, share: float) -> None:
    idle = {"command_valid": 0, "launch_end": 0, "load_ready": 0, "execute_ready": 0}
    module = await Module.start(dut, int(10 * share), **idle)
    outputs = parameter("OUTPUTS")
    for _ in range(1500):
        fields = random_command(module.rng, outputs)
        opcode, known = fields["opcode"], fields["opcode"] in MODES
        halt = opcode == OPCODE.halt
        skipped = not known or (not halt and (fields["tiles"] == 0 or fields["row_count"] == 0))
        blank = not skipped and not halt and is_blank(fields, outputs)
        reloads = opcode == OPCODE.gemm or (not halt and fields["flags"] >> FLAG.reload & 1 and not blank)
        seen = await hand_in(module, encode_command(**fields), share, halt)
        errors = int(not known), int(known and not halt and (skipped or blank))
        assert (seen["opcode_error"], seen["shape_error"]) == errors, str(fields)
        assert len(seen["execute"]) == (not skipped), fields
        assert len(seen["load"]) == (not skipped and bool(reloads)), fields
        if seen["execute"]:
            check_execute(seen["execute"][0], fields, blank)
        if seen["load"]:
            assert seen["load"][0] == expected_load(fields), fields


async def hand_in(module: Module, command: int, share: float, halt: bool) -> dict:
    """One command, until the next may come; behind `halt` that is at the end of the launch."""
    seen = {"execute": [], "load": [], "opcode_error": 0, "shape_error": 0}
    given, waited = False, 0
    for _ in range(400):
        ready = {f"{name}_ready": module.coin(share) for name in ("load", "execute")}
        ending = halt and waited > 12
        module.drive(command=command, command_valid=not given, launch_end=ending, **ready)
        await module.settle()
        for name in ("load", "execute"):
            if module.see(f"{name}_valid") and ready[f"{name}_ready"]:
                seen[name].append(module.see(name))
        for name in ("opcode_error", "shape_error"):
            seen[name] += module.see(name)
        free = bool(module.see("command_ready"))
        assert not (halt and given and free) or waited > 12, "a command behind halt before the end of the launch"
        done = given and free
        waited += halt and bool(seen["execute"])
        given = given or free
        await module.next()
        if done:
            break
    else:
        raise AssertionError("it takes no further command")
    module.drive(command_valid=0)
    return seen
