"""Two jobs side by side: what they share is theirs one at a time, and left as it was."""

import ctypes
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import machine, models, train
from helpers.machine import keep_freed_memory, seeded, side_by_side

KEYS = st.one_of(
    st.integers(), st.text(), st.booleans(), st.none(), st.tuples(st.integers(), st.text())
)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 28, 28), np.uint8)
LABELS = np.arange(24) % 10


def state(model):
    return [value.clone() for value in model.state_dict().values()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@given(st.dictionaries(KEYS, st.integers(-9, 9)))
@settings(deadline=None, max_examples=20)
def test_results_have_the_keys_and_the_order_of_the_jobs(jobs):
    found = side_by_side(lambda x: x * x, jobs)
    assert list(found.items()) == [(key, x * x) for key, x in jobs.items()]


def test_two_jobs_run_at_a_time_and_no_more():
    both, lock, running, most = threading.Barrier(2), threading.Lock(), [0], [0]

    def job(_):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)  # a third would begin
        both.wait(20)  # only two that run together get past
        with lock:
            running[0] -= 1

    side_by_side(job, dict.fromkeys(range(6)))
    assert most[0] == 2


def test_each_job_has_one_torch_thread_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert side_by_side(lambda _: torch.get_num_threads(), {1: 1, 2: 2}) == {1: 1, 2: 1}
            with seeded(0):
                assert side_by_side(lambda _: torch.get_num_threads(), {1: 1}) == {1: 1}
            with pytest.raises(ZeroDivisionError):
                side_by_side(lambda x: 1 / x, {0: 0})
            assert torch.get_num_threads() == threads
            with ThreadPoolExecutor(1) as pool:  # a new thread starts with what was set last
                assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("on", [True, False])
def test_gradients_are_on_or_off_as_for_the_caller(on):
    with torch.set_grad_enabled(on):
        assert set(side_by_side(lambda _: torch.is_grad_enabled(), {1: 1, 2: 2}).values()) == {on}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, KeyboardInterrupt, SystemExit])
def test_the_error_of_a_job_names_the_job(error, inside):
    def job(x):
        if x == 3:
            raise error("three")
        return x

    jobs = {("key", x): x for x in range(5)}
    with pytest.raises(error) as caught:
        if inside:
            with seeded(0):
                side_by_side(job, jobs)
        else:
            side_by_side(job, jobs)
    assert caught.value.__notes__ == ["side_by_side: in the job ('key', 3)"]


def test_after_an_error_no_further_job_begins_and_those_that_run_are_waited_for():
    begun, ended, failing = [], [], threading.Event()

    def job(x):
        begun.append(x)
        if x == 0:
            failing.set()
            raise ValueError("zero")
        failing.wait(20)
        time.sleep(0.2)
        ended.append(x)

    with pytest.raises(ValueError, match="zero"):
        side_by_side(job, {x: x for x in range(30)})
    assert len(begun) < 5 and sorted(ended) == sorted(set(begun) - {0})


@pytest.mark.parametrize(
    "arguments", [(len, [1, 2]), (len, None), ("len", {1: 2}), ({1: 2}, len), (len, {1, 2})]
)
def test_jobs_have_keys_and_the_function_can_be_called(arguments):
    with pytest.raises(
        TypeError, match=r"pass a function of one job, and the jobs as \{key: job\}"
    ):
        side_by_side(*arguments)


DRAWS = {
    "torch": lambda _: torch.rand(1),
    "a seed set by hand": lambda x: (torch.manual_seed(x), torch.rand(1)),
    "dropout": lambda _: nn.Dropout(0.5)(torch.ones(3)),
    "a new layer": lambda _: nn.Linear(2, 2),
    "NumPy": lambda _: np.random.rand(),
    "NumPy's seed": lambda x: np.random.seed(x + 1),
}


@pytest.fixture
def global_generators():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_job_that_draws_from_a_global_generator_is_told(draw, global_generators):
    with pytest.raises(RuntimeError, match=r"global generator.*Generator\(\).manual_seed.*seeded"):
        side_by_side(draw, {"a": 1, "b": 2})


def test_generators_of_their_own_are_safe():
    def job(x):
        own = torch.Generator().manual_seed(x)
        with seeded(x):
            inside = torch.rand(1).item()
        return torch.rand(1, generator=own).item(), inside, np.random.default_rng(x).random()

    jobs = {x: x for x in range(8)}
    assert side_by_side(job, jobs) == {x: job(x) for x in jobs}


def test_nested_calls_are_safe():
    def outer(x):
        return sum(side_by_side(lambda y: seeded_number(x + y), {1: 1, 2: 2}).values())

    jobs = {x: x for x in range(4)}
    assert side_by_side(outer, jobs) == {x: outer(x) for x in jobs}


def seeded_number(seed):
    with seeded(seed):
        return torch.rand(1).item()


@given(st.integers(0, 2**63 - 1), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_seeded_draws_what_the_seed_says_and_gives_the_generator_back(seed, inner):
    expected = torch.rand(3, generator=torch.Generator().manual_seed(seed))
    before = torch.get_rng_state()
    with seeded(seed):
        with seeded(inner):
            torch.rand(5)
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError), seeded(seed):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_one_thread_at_a_time_is_inside_seeded():
    lock, inside, most = threading.Lock(), [0], [0]

    def job(seed):
        with seeded(seed):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.005)
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(job, range(12)))
    assert most[0] == 1


def enters_within(seconds):
    """Whether another thread gets into `seeded` in this time."""
    entered = threading.Event()

    def enter():
        with seeded(1):
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return entered.wait(seconds)


@pytest.mark.parametrize("draws", [False, True])
def test_a_side_thread_gives_back_a_generator_that_it_did_not_use(draws):
    def job():
        before = torch.get_rng_state()
        with seeded(0) as give_back:
            if draws:
                torch.rand(1)
            give_back()
            given = enters_within(0.3 if draws else 20)
            assert torch.equal(torch.get_rng_state(), before) != draws
        return given

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(job).result() is not draws


def test_the_main_thread_keeps_the_generator():
    with seeded(0) as give_back:
        give_back()
        assert not enters_within(0.2)
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))


def test_inside_seeded_the_jobs_share_the_generator_in_their_order():
    def draw(_):
        return torch.rand(1).item()

    with seeded(3):
        found = side_by_side(draw, {"a": 0, "b": 0})
    with seeded(3):
        assert list(found.values()) == [draw(0), draw(0)]


def test_the_models_of_threads_are_those_of_their_seeds():
    names = ("TinyCNN", "ResNet8", "SensorGRU")
    jobs = {(name, seed): (name, seed) for name in names for seed in range(20)}
    expected = {key: state(models.build(*key)) for key in jobs}
    found = side_by_side(lambda job: state(models.build(*job)), jobs)
    assert all(equal(found[key], expected[key]) for key in jobs)
    with ThreadPoolExecutor(6) as pool:
        found = dict(zip(jobs, pool.map(lambda job: state(models.build(*job)), jobs), strict=True))
    assert all(equal(found[key], expected[key]) for key in jobs)


def dense(seed, dropout):
    with seeded(seed):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 10)
        )


def trained(seed, dropout, **options):
    model = dense(seed, dropout)
    train.fit(model, IMAGES, LABELS, epochs=2, batch_size=4, seed=seed, **options)
    return state(model)


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.7])), min_size=2, max_size=4
    )
)
@settings(deadline=None, max_examples=6)
def test_training_with_dropout_side_by_side_is_one_after_the_other(runs):
    jobs = dict(enumerate(runs))
    found = side_by_side(lambda job: trained(*job), jobs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert all(equal(found[key], trained(*jobs[key])) for key in jobs)
    finally:
        torch.set_num_threads(threads)


def test_a_loss_that_draws_is_seeded_as_a_model_is(one_thread):
    def noisy(outputs, labels):
        return nn.functional.cross_entropy(outputs + torch.randn_like(outputs), labels)

    jobs = {seed: seed for seed in range(4)}
    found = side_by_side(lambda seed: trained(seed, 0.0, loss=noisy), jobs)
    assert all(equal(found[seed], trained(seed, 0.0, loss=noisy)) for seed in jobs)
    assert not equal(found[0], trained(0, 0.0))


def test_trainings_that_draw_nothing_run_together():
    """Each waits, after its second step, for the other to come as far."""
    both = threading.Barrier(2)

    def meet(model, step, steps):
        if step == 2:
            both.wait(20)

    side_by_side(lambda seed: trained(seed, 0.0, callbacks=[meet]), {0: 0, 1: 1})


def test_trainings_that_draw_wait_for_each_other():
    running, together = set(), []

    def note(model, step, steps):
        running.add(id(model)) if step < steps else running.discard(id(model))
        together.append(len(running))
        time.sleep(0.005)

    side_by_side(lambda seed: trained(seed, 0.5, callbacks=[note]), {0: 0, 1: 1, 2: 2})
    assert max(together) == 1


def test_a_training_that_begins_to_draw_late_is_told(global_generators):
    def late(model, step, steps):
        model[3].p = 0.5 if step > 1 else 0.0

    with pytest.raises(RuntimeError, match="a job drew from the global generator"):
        side_by_side(lambda seed: trained(seed, 0.0, callbacks=[late]), {0: 0})
    assert equal(trained(0, 0.0, callbacks=[late]), trained(0, 0.0, callbacks=[late]))


def test_a_callback_may_work_side_by_side():
    """The training holds the generator that its callback's jobs ask for."""
    found = []

    def note(model, step, steps):
        if step == 1:
            found.append(side_by_side(lambda seed: state(dense(seed, 0.5)), {0: 0, 1: 1}))

    thread = threading.Thread(
        target=trained, args=(0, 0.5), kwargs=dict(callbacks=[note]), daemon=True
    )
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the jobs and their caller wait for each other"
    assert all(equal(found[0][seed], state(dense(seed, 0.5))) for seed in (0, 1))


def test_freed_memory_is_kept_once_for_the_process(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, option, value):
            calls.append((option, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    for platform, expected in (("darwin", []), ("linux", [(-3, 1 << 30), (-1, (1 << 31) - 1)])):
        monkeypatch.setattr(sys, "platform", platform)
        keep_freed_memory.cache_clear()
        keep_freed_memory()
        keep_freed_memory()
        assert calls == expected


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is None


def test_training_and_prediction_keep_freed_memory(monkeypatch):
    asked = []
    monkeypatch.setattr(train, "keep_freed_memory", lambda: asked.append(1))
    trained(0, 0.0)
    assert asked == [1]
    train.predict(dense(0, 0.0), IMAGES)
    assert asked == [1, 1] and machine.keep_freed_memory is keep_freed_memory
