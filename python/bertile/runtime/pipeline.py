"""Launches through all units of a card: prepared while others run, double-buffered, collected in order.

A launch runs on one unit, or, where the model was packed for that, on all of them together.

One thread prepares inputs in free slots and starts their runs, one waits for the oldest run and finishes it, one looks
whether the card still answers them. The caller holds futures only, so an interrupt reaches it at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from bertile.devices.launch import lay_out
from bertile.errors import DeviceError
from bertile.pack.packer import PackedModel
from bertile.runtime import lifetime
from bertile.runtime.card import Card, CardLostError
from bertile.runtime.jobs import Answer, Finish, Job, Prepare, Slot, StageTimes, Team, can_share

SLOTS_PER_UNIT = 2  # one runs while the other is filled or emptied
WAIT_SECONDS = 0.05  # between looks at whether to go on waiting
CLOSING_SECONDS = 2.0  # for runs under way when a card is closed
POWERLESS_SECONDS = 5.0  # for a thread to come back from XRT when an emulated card has lost its power


class CardFailure(Exception):
    """Ends the pipeline: the error is of the card, not of one request."""

    def __init__(self, error: DeviceError):
        super().__init__(str(error))
        self.error = error


def listed(slots: Sequence[Slot]) -> str:
    """Their units as the beginning of a sentence that says what they do not."""
    *most, last = [slot.unit for slot in slots]
    return f"{', '.join(most)} and {last} do" if most else f"{last} does"


class Pipeline:
    """Launches of one model on every unit of a card. Queues, errors and the number of threads are guarded by `changed`.

    Callbacks of futures run in its threads: they must be short, and must not wait for other requests.
    """

    def __init__(
        self,
        card: Card,
        packed: PackedModel,
        trace: bool = False,
        slots_per_unit: int = SLOTS_PER_UNIT,
        together: bool | None = None,
    ):
        """The model must be on the card. trace: answers have every layer, else the last. together: whether a launch
        takes all units; None: one that is alone does, where it can. Raises DeviceError, and as `can_share`."""
        shared = can_share(packed, len(card.units), together)
        self.card, self.changed, self.process = card, threading.Condition(), os.getpid()
        self.together = together
        self.error: DeviceError | None = None  # of the card, or that it was closed: no more requests
        self.failed = False
        self.closing_ends: float | None = None
        self.slots: list[Slot] = []
        self.free: deque[Slot] = deque()
        self.waiting: deque[Job] = deque()
        self.starting: Job | None = None
        self.flying: deque[tuple[Job, Team]] = deque()
        self.calls: dict[str, float] = {}  # calls of XRT that should return at once, and since when they have not
        self.unit_ends: dict[str, float] = {}
        try:
            for unit in card.units * slots_per_unit:
                self.slots.append(Slot(card, unit, packed, packed.config.layers if trace else 1))
        except BaseException:
            self._close_slots()
            raise
        self.free.extend(self.slots)
        self.alone = {slot: Team((slot,), packed, trace) for slot in self.slots}
        self.teams: list[Team] = []
        if shared:
            units = len(card.units)
            rows = [tuple(self.slots[first : first + units]) for first in range(0, len(self.slots), units)]
            self.teams = [Team(row, packed, trace) for row in rows]
        works = (self._start_all, self._collect_all, self._watch)
        self.threads = [threading.Thread(target=self._work, args=(work,), daemon=True) for work in works]
        self.alive = len(self.threads)
        lifetime.pipelines.add(self)
        for thread in self.threads:
            thread.start()

    def _work(self, work: Callable[[], None]) -> None:
        """A thread: whatever ends it, no request is left without an answer."""
        try:
            work()
        except BaseException as error:
            self._fail(DeviceError(f"the pipeline failed: {type(error).__name__}: {error}"))
            raise
        finally:
            with self.changed:
                self.alive -= 1
                self.changed.notify_all()

    def submit(self, prepare: Prepare, finish: Finish) -> Future:
        """A future `Answer` of one launch. prepare() gives sequences [tokens, hidden] int8; finish(rows, launch) makes
        the value of rows [layers, rows, hidden] int8, which it must not keep. Raises DeviceError after a failure."""
        return self.submit_all([prepare], finish)[0]

    def submit_all(self, prepares: list[Prepare], finish: Finish) -> list[Future]:
        """`submit` of several launches at once, so that the first of them does not pass for one that is alone."""
        if os.getpid() != self.process:
            raise DeviceError(f"the card was opened by process {self.process}: open it after the fork")
        jobs = [Job(prepare, finish) for prepare in prepares]
        with self.changed:
            if self.error is not None:
                raise self.error
            self.waiting.extend(jobs)
            self.changed.notify_all()
        return [job.future for job in jobs]

    def close(self) -> None:
        """Fail requests that wait, give those under way a moment, end the threads. A second call does nothing."""
        if os.getpid() != self.process:
            return
        if threading.current_thread() in self.threads:
            raise DeviceError("a callback of a request cannot close the card")
        with self.changed:
            self.closing_ends = self.closing_ends or time.perf_counter() + CLOSING_SECONDS
            self.error = self.error or DeviceError("the card was closed before this request ran")
            refused, self.waiting = list(self.waiting), deque()
            self.changed.notify_all()
        for job in refused:
            job.refuse(self.error)
        self._join(2 * CLOSING_SECONDS)
        if self.alive or self._running():
            self.card.stop(self._running())
            self._join(POWERLESS_SECONDS)
            self.card.stop(self._running())  # one that came back to start its run
            self.card.given_up |= self.alive > 0
        self._fail(DeviceError("the card was closed while this request ran"))
        self._close_slots()
        lifetime.pipelines.discard(self)

    def leak(self) -> None:
        """Never free the buffers."""
        self.card.leak_objects([slot.xrt for slot in self.slots])

    def _join(self, seconds: float) -> None:
        """Wait for the threads; not by `Thread.join`, which an interrupt may leave with a wrong answer."""
        with self.changed:
            self.changed.wait_for(lambda: self.alive == 0, seconds)

    def _running(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.running]

    def _close_slots(self) -> None:
        self.free.clear()
        self.card.close_slots([slot.xrt for slot in self.slots])
        self.slots = []

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Around calls of XRT that wait for nothing but the card's memory; watched."""
        self.calls[name] = time.perf_counter()
        try:
            yield
        except self.card.extension.CardError as error:
            raise CardFailure(DeviceError(str(error))) from None
        finally:
            del self.calls[name]

    def _team(self) -> Team | None:
        """Where the oldest request can run now. All units for one that is alone, so that it ends soonest; one unit for
        each of several, so that most of them end."""
        if not self.waiting:
            return None
        # Not by `flying`: who has an answer may ask again before its slots are ready.
        lone = len(self.waiting) == 1 and not self._running()
        if self.together or (self.teams and lone):
            return next((team for team in self.teams if all(slot in self.free for slot in team.slots)), None)
        return self.alone[self.free[0]] if self.free else None

    def _start_all(self) -> None:
        """Thread: prepare and start, as slots become free.

        Every unit must have its runs in the same order: two launches that share the units, each first on one of them,
        would wait for each other for ever. This thread starts a launch on all its units before the next one; the card's
        lock keeps the pipelines of one card apart.
        """
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.error or self._team())
                if self.error:
                    return
                team = self._team()
                self.starting = job = self.waiting.popleft()
                for slot in team.slots:
                    self.free.remove(slot)
            started = job.future.set_running_or_notify_cancel() and self._start(job, team)
            with self.changed:
                self.starting = None
                if started and not self.failed:
                    self.flying.append((job, team))
                elif not started:
                    self.free.extend(team.slots)
                self.changed.notify_all()

    def _start(self, job: Job, team: Team) -> bool:
        """Whether the run was started; if not, the future has its error."""
        try:
            job.began = time.perf_counter()
            job.launch = lay_out(job.prepare())
            team.fill(job.launch)
            job.prepared = time.perf_counter()
            with self._call(f"sending a request to {team.name}"):
                team.send(job.launch)
                with self.card.start_order:
                    job.sent = time.perf_counter()
                    team.start()
            job.started = time.perf_counter()
            return True
        except CardFailure as failure:
            self._fail(failure.error)
        except Exception as error:  # of this request alone: too long, or a caller's mistake
            job.settle(error=error)
        return False

    def _collect_all(self) -> None:
        """Thread: finish runs in the order of their start."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.flying or (self.error and not self.starting))
                if not self.flying:
                    return
                job, team = self.flying[0]
            try:
                self._await(job, team)
                try:
                    job.settle(self._finish(job, team))
                except CardFailure:
                    raise
                except Exception as error:  # of this request alone
                    job.settle(error=error)
                with self._call(f"preparing {team.name} for the next request"):
                    team.clear_status()
            except CardFailure as failure:
                self._fail(failure.error)
                return
            with self.changed:
                if self.failed:
                    return
                self.flying.popleft()
                self.free.extend(team.slots)
                self.changed.notify_all()

    def _await(self, job: Job, team: Team) -> None:
        """Until the run has ended. A unit's time for it counts from the end of the run before."""
        units = [slot.unit for slot in team.slots]
        limit = max(job.started, *(self.unit_ends.get(unit, 0.0) for unit in units)) + self.card.timeout_s
        while not self._ended(team):
            now = time.perf_counter()
            if self.closing_ends and now > self.closing_ends:
                raise CardFailure(DeviceError(f"the card was closed while {team.name} ran this request"))
            if now > limit:
                raise CardFailure(DeviceError(self._overdue(team) + self.card.advice))
        self.unit_ends.update(dict.fromkeys(units, time.perf_counter()))

    def _ended(self, team: Team) -> bool:
        try:
            return team.wait(WAIT_SECONDS)
        except self.card.extension.CardError as error:
            raise CardFailure(DeviceError(str(error))) from None

    def _overdue(self, team: Team) -> str:
        """Which units have not ended, and which of a team never began: the others wait for their words."""
        with self._call(f"asking XRT about {team.name}"):
            late = [slot for slot in team.slots if not slot.wait(0.0)] or team.slots
        text = f"{listed(late)} not finish: no end after {self.card.timeout_s:g} s"
        if len(team.slots) == 1:
            return text
        try:
            with self._call(f"asking {team.name} whether they began"):
                absent = [slot.unit for slot in late if not slot.has_begun()]
        except CardFailure:  # then nobody knows
            return text
        return text + (f"; never began: {', '.join(absent)}" if absent else "")

    def _finish(self, job: Job, team: Team) -> Answer:
        collected = time.perf_counter()
        with self._call(f"fetching an answer from {team.name}"):
            team.fetch(job.launch)
        fetched = time.perf_counter()
        try:
            cycles = team.check()
        except CardLostError as error:
            raise CardFailure(error) from None
        value = job.finish(team.rows(job.launch), job.launch)
        times = StageTimes(
            queued=job.began - job.submitted,
            embed=job.prepared - job.began,
            to_card=job.sent - job.prepared,
            run=team.run_seconds,
            noticed=collected - job.sent - team.run_seconds,
            from_card=fetched - collected,
            result=time.perf_counter() - fetched,
        )
        return Answer(value, job.began, times, team.name, cycles)

    def _watch(self) -> None:
        """Thread: fail when a call of XRT does not come back, which no other thread would notice."""
        while True:
            with self.changed:
                if self.changed.wait_for(lambda: self.error, WAIT_SECONDS * 4):
                    return
            late = time.perf_counter() - self.card.timeout_s
            for name, since in list(self.calls.items()):
                if since < late:
                    late_by = f"{name} takes more than {self.card.timeout_s:g} s: the card does not answer"
                    self._fail(DeviceError(late_by + self.card.advice))

    def _fail(self, error: DeviceError) -> None:
        """Fail every request that has no answer yet, and all to come."""
        with self.changed:
            self.error, self.failed = self.error or error, True
            waiting, self.waiting = list(self.waiting), deque()
            begun = [*(job for job, _ in self.flying), *([self.starting] if self.starting else [])]
            self.flying.clear()
            self.changed.notify_all()
        for job in waiting:
            job.refuse(error)
        for job in begun:
            job.settle(error=error)
