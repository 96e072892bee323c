"""Who runs what, and what is said of units that do not end: the pipeline on a card that does as the test says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from bertile.config.spec import load_spec
from bertile.devices.launch import lay_out, to_words
from bertile.errors import CapacityError, DeviceError
from bertile.runtime.card import ONES, ZEROS
from bertile.runtime.jobs import Slot, Team
from bertile.runtime.pipeline import Pipeline

from .fake_card import FakeCard, status

SPEC = load_spec()
UNITS = ["encoder_1", "encoder_2", "encoder_3"]
ALL = "+".join(UNITS)
HIDDEN = 64


@contextmanager
def opened(card: FakeCard, model, together: bool | None = None, **options) -> Iterator[Pipeline]:
    pipeline = Pipeline(card, model.packed, together=together, **options)
    try:
        yield pipeline
    finally:
        card.end()
        pipeline.close()


def submit(pipeline: Pipeline, tokens: int = 5):
    return pipeline.submit(lambda: [np.ones((tokens, HIDDEN), np.int8)], lambda rows, launch: rows.copy())


def error_of(future) -> str:
    with pytest.raises(DeviceError) as raised:
        future.result(timeout=10)
    return str(raised.value)


def test_a_lone_request_takes_all_units_and_others_one_each(dealt):
    card = FakeCard()
    with opened(card, dealt) as pipeline:
        lone = submit(pipeline)
        card.await_starts(3)
        queued = []
        for count in range(3):
            queued.append(submit(pipeline))
            card.await_starts(4 + count)
        assert card.starts[:3] == UNITS
        assert sorted(card.starts[3:]) == UNITS
        card.end()
        assert lone.result(5).unit == ALL
        assert sorted(future.result(5).unit for future in queued) == UNITS
        assert submit(pipeline).result(5).unit == ALL


def test_requests_that_come_at_once_are_not_alone(dealt):
    card = FakeCard()
    card.end()
    with opened(card, dealt) as pipeline:
        prepare = [lambda: [np.ones((5, HIDDEN), np.int8)]] * 3
        futures = pipeline.submit_all(prepare, lambda rows, launch: None)
        assert futures[0].result(5).unit in UNITS


@pytest.mark.parametrize(("together", "units"), [(True, [ALL]), (False, UNITS)])
def test_one_mode_alone(dealt, together, units):
    card = FakeCard()
    card.end()
    with opened(card, dealt, together) as pipeline:
        lone = [submit(pipeline).result(5).unit for _ in range(3)]
        queued = [future.result(5).unit for future in [submit(pipeline) for _ in range(9)]]
        assert set(lone) <= set(units)
        assert set(queued) == set(units)
        if together:
            assert card.starts == UNITS * 12  # all units of a launch before any of the next


def test_pipelines_of_a_card_start_one_launch_after_the_other(dealt):
    """With and without every layer, as the command line has them."""
    card = FakeCard()
    card.end()
    with opened(card, dealt, True) as plain, opened(card, dealt, True, trace=True) as traced:
        for future in [submit(pipeline) for _ in range(10) for pipeline in (plain, traced)]:
            future.result(5)
    assert card.starts == UNITS * 20


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_client_that_asks_again_at_once_stays_alone(dealt, slots):
    """Its answer is there before the buffers are ready for the next."""
    card = FakeCard()
    for unit in card.units:
        unit.clearing = 0.003
    card.end()
    with opened(card, dealt, slots_per_unit=slots) as pipeline:
        assert {submit(pipeline).result(5).unit for _ in range(50)} == {ALL}


@pytest.mark.parametrize("slots", [1, 2])
def test_a_slot_has_one_launch_at_a_time(dealt, slots):
    card = FakeCard()
    with opened(card, dealt, slots_per_unit=slots) as pipeline:
        futures = [submit(pipeline)]
        card.await_starts(3)
        futures += [submit(pipeline) for _ in range(4)]
        time.sleep(0.1)
        assert len(card.starts) == 3 * slots
        card.end()
        assert len({future.result(5).began for future in futures}) == 5


def test_what_cannot_be_together(dealt, tiny):
    with pytest.raises(DeviceError, match="this file was packed for 3 units; the card has 1"):
        Pipeline(FakeCard(1), dealt.packed, together=True)
    with pytest.raises(CapacityError, match="the file is packed for one unit: bertile pack --units 3"):
        Pipeline(FakeCard(), tiny.packed, together=True)
    for card, model in ((FakeCard(1), dealt), (FakeCard(2), dealt)):
        card.end()
        with opened(card, model) as pipeline:
            assert "+" not in submit(pipeline).result(5).unit
    card = FakeCard()
    card.end()
    with opened(card, tiny) as pipeline:
        zeros = [np.zeros((3, tiny.packed.config.hidden), np.int8)]
        assert pipeline.submit(lambda: zeros, lambda rows, launch: None).result(5).unit in UNITS


def test_every_unit_has_its_words_and_gives_its_own(dealt):
    """Of the model's features, in the order of the images; no more is sent or fetched than that."""
    card, packed = FakeCard(), dealt.packed
    rng = np.random.default_rng(2)
    launch = lay_out([rng.integers(-128, 128, (40, HIDDEN)).astype(np.int8)])
    team = Team(tuple(Slot(card, unit, packed, packed.config.layers) for unit in card.units), packed, True)
    team.fill(launch)
    team.send(launch)
    words, order = to_words(launch.rows), packed.feature_order()
    assert sorted(order.tolist()) == list(range(HIDDEN))
    assert not np.array_equal(order, np.argsort(order))  # or one would do for the other
    for unit, slot in enumerate(team.slots):
        mine = words[:, order[packed.features(unit)]]
        assert np.array_equal(slot.input[: mine.size].reshape(mine.shape), mine)
        assert card.units[unit].sent == [mine.size]
        for layer in range(packed.config.layers):
            slot.output[layer * mine.size : (layer + 1) * mine.size] = mine.reshape(-1)
    assert np.array_equal(team.rows(launch), np.stack([launch.rows] * packed.config.layers))


def test_cycles_are_those_of_the_slowest_unit(dealt):
    card = FakeCard()
    for unit, cycles in zip(card.units, (5, 9, 7), strict=True):
        unit.ending = status(cycles=cycles)
    card.end()
    with opened(card, dealt, together=True) as pipeline:
        assert submit(pipeline).result(5).engine_cycles == 9


@pytest.mark.parametrize(
    ("ended", "absent", "message"),
    [
        ([], UNITS[1:2], "encoder_1, encoder_2 and encoder_3 do not finish: {late}; never began: encoder_2"),
        ([], UNITS[:2], "encoder_1, encoder_2 and encoder_3 do not finish: {late}; never began: encoder_1, encoder_2"),
        ([], [], "encoder_1, encoder_2 and encoder_3 do not finish: {late}"),
        (UNITS[:1], [], "encoder_2 and encoder_3 do not finish: {late}"),
        (UNITS[:2], [], "encoder_3 does not finish: {late}"),
        (UNITS[1:], [], "encoder_1 does not finish: {late}"),
    ],
)
def test_units_that_do_not_end_are_named(dealt, ended, absent, message):
    card = FakeCard(timeout_s=0.2)
    for unit in card.units:
        unit.begun = ZEROS if unit.instance in absent else unit.begun
    if ended:
        card.end(*ended)
    with opened(card, dealt, together=True) as pipeline:
        futures = [submit(pipeline) for _ in range(3)]
        begin = time.monotonic()
        assert [error_of(future) for future in futures] == [message.format(late="no end after 0.2 s")] * 3
        assert time.monotonic() - begin < 2
        with pytest.raises(DeviceError, match="not finish"):
            submit(pipeline)


def test_a_card_that_does_not_say_who_began(dealt):
    card = FakeCard(timeout_s=0.2)
    for unit in card.units:
        unit.silent = True
    with opened(card, dealt, together=True) as pipeline:
        assert error_of(submit(pipeline)) == "encoder_1, encoder_2 and encoder_3 do not finish: no end after 0.2 s"


def test_who_refuses_is_named_and_not_its_peers(dealt):
    card = FakeCard()
    card.end()
    for unit in card.units:
        unit.ending = status(SPEC.error.peer)
    card.units[2].ending = status(SPEC.error.opcode)
    with opened(card, dealt, together=True) as pipeline:
        assert error_of(submit(pipeline)) == "encoder_3: the kernel reports error opcode"
        for unit in card.units:
            unit.ending = status()
        assert submit(pipeline).result(5).unit == ALL


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (ONES, "the card was lost: encoder_2 answers with ones only, as an empty PCIe slot does"),
        (ZEROS, "encoder_2 ended without leaving a status"),
        (status(SPEC.error.running), "encoder_2 ended without leaving a status"),
    ],
)
def test_a_unit_that_leaves_no_status(dealt, left, message):
    card = FakeCard()
    card.end()
    card.units[1].ending = left
    with opened(card, dealt, together=True) as pipeline:
        assert error_of(submit(pipeline)) == message
        with pytest.raises(DeviceError, match="encoder_2"):
            submit(pipeline)


def test_a_unit_that_cannot_be_started(dealt):
    """The ones before it wait for it, so the card is of no more use."""
    card = FakeCard()
    card.units[1].broken = True
    with opened(card, dealt, together=True) as pipeline:
        assert error_of(submit(pipeline)) == "starting encoder_2: broken"
        with pytest.raises(DeviceError, match="starting encoder_2: broken"):
            submit(pipeline)
