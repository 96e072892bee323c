"""Words from the peers: used, awaited and taken like those of the encoder, whatever the engine waits for."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.engine import EngineBench, Traffic, log_seed
from tests.rtl.bench.launch import BYTE, Attention, Launch
from tests.rtl.bench.shape import WORDS
from tests.rtl.bench.stimulus import Stimulus
from tests.rtl.bench.streams import PAUSES

OPERATIONS = ("gemm", "scores", "context", "halt")
SETTLED = 1000  # cycles in which everything that can come has come
MORE = 150  # words of each stream, more than what lies between the ports and the memory


def shared_region(stimulus: Stimulus, launch: Launch, address: int, count: int, tile: int) -> None:
    """Words of a result that the units have computed together: tiles of each in turn."""
    for i in range(count):
        lanes = stimulus.values(0, 255, stimulus.shape.tokens)
        launch.word(address + i, lanes, i // tile % len(WORDS))


def unread(stimulus: Stimulus, launch: Launch, first: int) -> None:
    """Words of all streams that no command reads, from an address on, and each in a place of its own."""
    room = (stimulus.shape.words - first) // len(WORDS)
    for stream in range(len(WORDS)):
        for i in range(MORE):
            lanes = stimulus.values(0, 255, stimulus.shape.tokens)
            launch.word(first + stream * room + i % room, lanes, stream)


@cocotb.test()
@cocotb.parametrize(first=PAUSES, second=PAUSES)
async def shared_operands(dut, first: str, second: str) -> None:
    """Gemms over words of all units, tile by tile, with pauses of either peer."""
    seed = 300 + PAUSES.index(first) * len(PAUSES) + PAUSES.index(second)
    rng = log_seed(seed)
    others = {name: rng.choice(PAUSES) for name in ("commands", "tiles", "words", "results")}
    bench = await EngineBench.start(dut, seed, traffic=Traffic(**others, words_from_0=first, words_from_1=second))
    stimulus = Stimulus(bench.shape, rng)
    launch = stimulus.launch()
    for _ in range(6):
        inputs, rows = rng.randint(1, 70), rng.randint(1, 4)
        start, stride = stimulus.region(inputs, rows)
        for row in range(rows):
            shared_region(stimulus, launch, start + row * stride, inputs, rng.choice([1, 5, bench.shape.outputs]))
        tiles = [stimulus.tile(inputs, rng.randint(0, inputs)) for _ in range(rng.randint(1, 4))]
        launch.gemm(tiles, start, stride, 0, rows)
    await bench.run([launch.halt()])


def late_operand(stimulus: Stimulus, launch: Launch, operation: str, stream: int) -> None:
    """A command whose last word comes on this stream."""
    outputs = stimulus.shape.outputs
    if operation == "halt":
        launch.word(5, stimulus.values(0, 255, stimulus.shape.tokens), stream)
        return
    head = {"keys": 2 * outputs, "head_size": outputs, "weight": 100, "weight_stride": outputs}
    for address in range(100, 100 + 2 * outputs):
        launch.word(address, stimulus.values(0, 255, stimulus.shape.tokens))
    launch.row_scales(1, stimulus.values(0, 65535, stimulus.shape.tokens))
    for address in range(2 * outputs):
        launch.word(address, stimulus.values(0, 255, stimulus.shape.tokens))
    launch.word(outputs // 2, stimulus.values(0, 255, stimulus.shape.tokens), stream)
    if operation == "gemm":
        launch.gemm([stimulus.tile(outputs, outputs)] * 3, 0, outputs)
    elif operation == "scores":
        launch.scores(Attention(**head, source=0, shift=4, limits=BYTE))
    else:
        launch.context(Attention(**head, source=0, slot=1, shift=28, limits=BYTE, is_unsigned=True))


@cocotb.test()
@cocotb.parametrize(operation=OPERATIONS, stream=range(len(WORDS)))
async def awaited(dut, operation: str, stream: int) -> None:
    """A command does not start before the last word of any stream that it awaits; those before it do."""
    seed = 320 + OPERATIONS.index(operation) * len(WORDS) + stream
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch = stimulus.launch(eager=True)
    inputs = 2 * bench.shape.outputs
    for address in range(200, 200 + inputs):
        launch.word(address, stimulus.values(0, 255, bench.shape.tokens), address % len(WORDS))
    launch.gemm([stimulus.tile(inputs, inputs)] * 2, 200, inputs)
    before, came, name = len(launch.expected), [], WORDS[stream]
    late_operand(stimulus, launch, operation, stream)
    launch.halt()

    def gate() -> bool:
        """The last word comes when nothing else moves."""
        if bench.words_left(name) > 1:
            return True
        if bench.words_left() == 1 and bench.cycle > SETTLED:
            came.append(bench.received)
            return True
        return False

    bench.gates[name] = gate
    await bench.run([launch])
    assert came[0] == before, f"{came[0]} results before the last word of {name}, not {before}"


@cocotb.test()
@cocotb.parametrize(stream=range(len(WORDS)))
async def words_come_first(dut, stream: int) -> None:
    """Words of one stream, or all, arrive before the first command of their launch, from the first cycle that the
    contract allows; they count for this launch.
    """
    rng = log_seed(340 + stream)
    bench = await EngineBench.start(dut, 340 + stream, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    streams = WORDS[stream:]
    bench.gates["commands"] = lambda: bench.words_left(*streams) == 0
    launches = []
    for _ in range(5):
        launch, inputs = stimulus.launch(), rng.randint(3, 60)
        if rng.random() < 0.8:
            start = rng.randrange(bench.shape.words - inputs)
            shared_region(stimulus, launch, start, inputs, rng.choice([1, 7]))
            launch.gemm([stimulus.tile(inputs, inputs)] * 2, start, inputs)
        else:
            unread(stimulus, launch, 0)
        launches.append(launch.halt())
    await bench.run(launches)


@cocotb.test()
@cocotb.parametrize(held=["commands", "tiles", "results", *WORDS])
async def taken_meanwhile(dut, held: str) -> None:
    """Whatever the engine waits for, it takes the words of every stream."""
    seed = 350 + ["commands", "tiles", "results", *WORDS].index(held)
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, inputs = stimulus.launch(eager=True), 40
    shared_region(stimulus, launch, 0, inputs, 3)
    # Its results fill the FIFO; and it awaits the last word of its operand, on the stream that is held.
    launch.word(inputs, stimulus.values(0, 255, bench.shape.tokens), WORDS.index(held) if held in WORDS else 0)
    launch.gemm([stimulus.tile(inputs + 1, inputs + 1) for _ in range(16)], 0, inputs + 1)
    others = [name for name in WORDS if name != held]
    unread(stimulus, launch, inputs + 1)
    bench.gates[held] = lambda: bench.words_left(*others) == 0
    if held not in WORDS:
        # By then it has everything that it gets without what is held.
        for name in WORDS:
            bench.gates[name] = lambda name=name: bench.words_left(name) > MORE or bench.cycle > SETTLED
    await bench.run([launch.halt()])


@cocotb.test()
@cocotb.parametrize(busy=[False, True])
async def three_words_a_cycle(dut, busy: bool) -> None:
    """Without pauses every stream gives a word a cycle, while the array stands still or reads dense tiles."""
    rng = log_seed(360 + busy)
    bench = await EngineBench.start(dut, 360 + busy, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, inputs = stimulus.launch(eager=True), 160
    shared_region(stimulus, launch, 0, inputs, bench.shape.outputs)
    launch.gemm([stimulus.tile(inputs, inputs) for _ in range(20)], 0, inputs)
    unread(stimulus, launch, bench.shape.words // 2)
    if busy:
        # Words that nothing reads come while passes follow each other.
        for name in WORDS:
            bench.gates[name] = lambda name=name: bench.words_left(name) > MORE or bench.received > 0
    await bench.run([launch.halt()])
    for name in WORDS:
        sent = bench.sent[name][-MORE:]
        spent = sent[-1] - sent[0] + 1
        assert spent <= MORE + 8, f"{name}: {MORE} words in {spent} cycles"
