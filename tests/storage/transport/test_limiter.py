"""How many requests, and how many new connections, a host gets at a time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from mediasql.storage.transport.deadline import Deadline
from mediasql.storage.transport.jobs import Delay, Job
from mediasql.storage.transport.limiter import FIRST, FIRST_AT_CLOUD, LEAST, OPENING, AdaptiveLimiter, Place, Turn
from tests.storage.transport.engine import FakeEngine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    return FakeEngine(monkeypatch)


class Host:
    """A server, simulated: `latency` is that of one request alone; more than `capacity` at a time share its speed."""

    def __init__(self, engine: FakeEngine, limiter: AdaptiveLimiter, latency: float, capacity: float) -> None:
        self.engine, self.limiter = engine, limiter
        self.latency, self.capacity = latency, capacity
        self.served = 0
        self.most = 0
        self.most_opening = 0

    def request(self, deadline: Deadline | None = None) -> Generator[Any, Any, None]:
        place = self.limiter.try_acquire()
        if place is None:
            place = yield Turn(self.limiter, deadline)
        try:
            if place.opens:
                place.on_open()
                self.most_opening = max(self.most_opening, self.limiter.opening)
                yield Delay(0.001)
            place.on_connected()
            place.sent = self.engine.now
            self.most = max(self.most, self.limiter.active)
            yield Delay(self.latency * max(1.0, self.limiter.active / self.capacity))
            place.on_head(reusable=True, multiplexed=False)
            place.on_success()
            self.served += 1
        finally:
            place.release()

    def load(self, count: int) -> None:
        for _ in range(count):
            self.engine.start(self.request(), lambda value, error: None)


def acquired(limiter: AdaptiveLimiter, count: int) -> list[Place]:
    places = []
    for _ in range(count):
        if (place := limiter.try_acquire()) is not None:
            place.on_open()
            place.on_connected()
            place.on_head(reusable=True, multiplexed=False)
            places.append(place)
    return places


def waiting(engine: FakeEngine, limiter: AdaptiveLimiter, seconds: float = 60.0) -> tuple[Job, list[Any]]:
    """One that waits for a place, and what came of it."""
    came: list[Any] = []

    def steps() -> Generator[Any, Any, Any]:
        return (yield Turn(limiter, Deadline(seconds)))

    return engine.start(steps(), lambda place, error: came.append(error or place)), came


@pytest.mark.parametrize("latency", [0.001, 0.03, 0.3])
def test_the_limit_grows_while_answers_come_as_fast_as_at_first(engine: FakeEngine, latency: float) -> None:
    limiter = AdaptiveLimiter(engine, 256)
    assert limiter.limit == FIRST
    host = Host(engine, limiter, latency, capacity=10_000)
    host.load(5000)
    engine.advance(6 * latency + 0.1)
    assert limiter.limit == 256
    engine.advance(100)
    assert host.served == 5000


def test_a_distant_host_is_not_asked_for_long_by_few(engine: FakeEngine) -> None:
    """Each step costs a round trip, so that a limit which doubles would take seconds to grow."""
    limiter = AdaptiveLimiter(engine, 256, first=FIRST_AT_CLOUD)
    host = Host(engine, limiter, 0.3, capacity=10_000)
    host.load(2000)
    engine.advance(0.7)
    assert limiter.limit == 256


@pytest.mark.parametrize("capacity", [10, 40])
def test_the_limit_stops_where_latency_rises_with_load(engine: FakeEngine, capacity: int) -> None:
    limiter = AdaptiveLimiter(engine, 256)
    host = Host(engine, limiter, 0.1, capacity)
    host.load(3000)
    engine.advance(20)
    assert capacity <= limiter.limit <= 4 * capacity
    engine.advance(1000)
    assert host.served == 3000


def test_few_connections_are_opened_at_a_time(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 256)
    host = Host(engine, limiter, 0.03, capacity=10_000)
    host.load(100)
    engine.advance(0.0015)
    assert (host.most_opening, host.most) == (OPENING, OPENING), "nothing is known of it before it has answered"
    engine.advance(0.033)
    assert host.most_opening <= 2 * OPENING
    assert host.most >= FIRST


def test_a_server_that_closes_each_connection_gets_few_new_ones_at_a_time(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 256)
    for _ in range(200):
        for place in [place for _ in range(300) if (place := limiter.try_acquire()) is not None]:
            place.on_open()
            assert limiter.opening <= OPENING
            place.on_connected()
            place.sent = engine.now
            place.on_head(reusable=False, multiplexed=False)
            place.on_success()
            place.release()
    assert limiter.connected == 0
    assert sum(limiter.try_acquire() is not None for _ in range(300)) <= OPENING


def test_a_connection_that_takes_long_halves_how_many_are_opened(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 256, first=FIRST_AT_CLOUD)
    limiter.on_success(0.01)
    places = [place for _ in range(100) if (place := limiter.try_acquire()) is not None]
    opening = len(places)
    engine.advance(1.0)  # the time after which a SYN that was dropped is sent again
    for place in places:
        place.on_connected()
    assert sum(limiter.try_acquire() is not None for _ in range(300)) <= opening // 2
    assert opening // 2 >= LEAST


def test_the_first_refusals_tell_how_many_a_host_accepts(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 256, first=FIRST_AT_CLOUD)
    places = acquired(limiter, FIRST_AT_CLOUD)
    for place in places[10:]:
        limiter.on_throttle()
        place.release()
    assert limiter.limit == 10
    for _ in range(100):
        limiter.on_success(0.01)
    assert limiter.limit == 10, "to ask for more would be refused again"
    engine.advance(20)
    for _ in range(12):
        limiter.on_success(0.01)
    assert limiter.limit == 11


def test_refusals_that_go_on_halve_the_limit_once_a_second(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 256, first=FIRST_AT_CLOUD)
    places = acquired(limiter, FIRST_AT_CLOUD)
    limiter.on_throttle()
    limiter.on_throttle()
    assert limiter.limit == len(places) - 1
    engine.advance(1.0)
    limiter.on_throttle()
    limiter.on_throttle()
    assert limiter.limit == (len(places) - 1) // 2
    for _ in range(10):
        engine.advance(1.0)
        limiter.on_throttle()
    assert limiter.limit == LEAST


def test_it_stays_within_what_was_configured(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 2)
    limiter.on_success(0.01)
    limiter.on_throttle()
    assert limiter.limit == 2


def test_a_pause_is_not_for_requests_that_it_would_outlast(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 2)
    limiter.on_throttle(after=0.4)
    _, patient = waiting(engine, limiter, 30)
    _, pressed = waiting(engine, limiter, 0.2)
    _, other = waiting(engine, limiter, 30)
    assert pressed, "the server wants more time than it has in all"
    assert not patient
    assert not other
    pressed[0].release()
    engine.advance(0.5)
    assert patient
    assert other


def test_a_host_that_asks_for_a_pause_gets_as_many_as_it_accepted(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 100, first=FIRST_AT_CLOUD)
    places = acquired(limiter, FIRST_AT_CLOUD)
    assert len(places) == FIRST_AT_CLOUD
    for place in places[7:]:
        limiter.on_throttle(after=0.2)
        place.release()
    for place in places[:7]:
        limiter.on_success()
        place.release()
    engine.advance(0.3)
    assert limiter.limit == 7
    for _ in range(30):
        limiter.on_success()
    assert limiter.limit == 7, "to ask for more may cost another pause"


def test_a_single_refusal_among_many_says_little_of_the_host(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 100, first=FIRST_AT_CLOUD)
    places = acquired(limiter, FIRST_AT_CLOUD)
    limiter.on_throttle(after=0.1)
    engine.advance(0.2)
    assert limiter.limit == FIRST_AT_CLOUD - 1
    for place in places[:50]:
        place.release()
    limiter.on_throttle(after=0.1)
    engine.advance(0.2)
    assert limiter.limit == FIRST_AT_CLOUD - 1, "it was not more than the host bears"


def test_waiting_is_not_the_time_of_an_object(engine: FakeEngine) -> None:
    limiter, deadline = AdaptiveLimiter(engine, 1), Deadline(0.3)
    (first,) = acquired(limiter, 1)
    came: list[Any] = []

    def steps() -> Generator[Any, Any, Any]:
        return (yield Turn(limiter, deadline))

    engine.start(steps(), lambda place, error: came.append(error or place))
    for _ in range(5):
        engine.advance(0.1)
        limiter.on_success()  # the host is there
    first.release()
    assert isinstance(came[0], Place)
    assert deadline.left == pytest.approx(0.3)


def test_an_object_that_waits_at_a_silent_host_is_given_up(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 1)
    acquired(limiter, 1)
    _, came = waiting(engine, limiter, 0.3)
    engine.advance(0.29)
    assert not came
    engine.advance(0.2)
    assert isinstance(came[0], TimeoutError)
    assert (limiter.active, limiter.is_open) == (1, False)


def test_hung_requests_do_not_keep_the_others_from_being_tried(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 200)
    acquired(limiter, FIRST)
    came = [waiting(engine, limiter, 0.6)[1] for _ in range(100)]
    engine.advance(0.29)
    assert not any(came)
    engine.advance(0.2)
    assert all(isinstance(each[0], Place) for each in came)


def test_places_are_taken_first_come_first_served(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 2)
    places = acquired(limiter, 2)
    came = [waiting(engine, limiter)[1] for _ in range(5)]
    for number in range(5):
        places.pop(0).release()
        assert [bool(each) for each in came] == [True] * (number + 1) + [False] * (4 - number)
        assert limiter.active == 2
        came[number][0].on_connected()
        places.append(came[number][0])


def test_a_job_that_is_given_up_while_it_waits_takes_no_place(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 1)
    (first,) = acquired(limiter, 1)
    given_up, came = waiting(engine, limiter)
    _, later = waiting(engine, limiter)
    engine.cancel(given_up)
    first.release()
    assert not came
    later[0].release()
    assert limiter.active == 0


def test_the_silence_of_a_host_is_forgotten_when_it_was_left_alone(engine: FakeEngine) -> None:
    limiter = AdaptiveLimiter(engine, 8)
    for place in acquired(limiter, 4):
        limiter.on_timeout()
        place.release()
    assert limiter.try_acquire() is None
    engine.advance(2.0)
    assert limiter.try_acquire() is not None
