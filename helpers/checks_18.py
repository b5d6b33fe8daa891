"""Checks of the try-it and the exercises of lesson 18, costs and budgets.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import math

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def peak_bytes(
    tensors, bytes_per_value=4, *, lives=lambda s, born, last: born <= s <= last, end=1, best=max
):
    steps = range(max(last for _, _, last in tensors) + end)
    alive = (sum(n for n, born, last in tensors if lives(s, born, last)) for s in steps)
    return bytes_per_value * best(alive)


@exercise(
    "18.0",
    peak_bytes,
    {
        "that is the sum of all tensors: each takes room from the step that writes it to the last "
        "step that reads it, not all the time": (
            lambda tensors, size=4: size * sum(n for n, _, _ in tensors)
        ),
        "that is the largest tensor: several are alive at a step, add them up": (
            lambda tensors, size=4: size * max(n for n, _, _ in tensors)
        ),
        "a tensor is alive at both its ends, when it is written and when it is read for the last "
        "time: born <= step <= last": dict(lives=lambda s, born, last: born <= s < last),
        "a tensor stays alive until it is read for the last time, not only while it is written": (
            dict(lives=lambda s, born, last: s == born)
        ),
        "a tensor is alive between its two steps, too, where nobody touches it": dict(
            lives=lambda s, born, last: s in (born, last)
        ),
        "the last step is missing: range(last) ends before it": dict(end=0),
        "those are values: multiply by bytes_per_value": dict(bytes_per_value=1),
        "a value has bytes_per_value bytes, not always 4": dict(bytes_per_value=4),
        "that is the smallest sum: the peak is the largest": dict(best=min),
        "that is the total over the steps: the peak is the largest of them": dict(best=sum),
    },
)
def check_peak_bytes(answer: Answer) -> None:
    """One number, the bytes."""
    lenet = [(784, 0, 1), (300, 1, 2), (100, 2, 3), (10, 3, 3)]
    block = [(60, 0, 1), (50, 1, 4), (40, 2, 3), (30, 3, 4), (45, 4, 5), (7, 5, 5)]
    late = [(5, 0, 1), (3, 1, 4), (2, 2, 2), (9, 4, 4)]  # the peak is at the last step
    idle = [(30, 0, 3), (20, 1, 2), (4, 2, 3), (11, 3, 3)]
    twins = [(6, 0, 1), (5, 1, 2), (7, 1, 3), (9, 3, 3)]  # one step writes two
    cases = [(lenet, 4), (lenet, 1), (block, 2), (late, 4), (idle, 2), (twins, 1)]
    compare(answer, cases, advice="add up what is alive at each step, then take the largest sum")


def battery_days(watt_hours, sleep_watts, awake_watts, seconds, per_hour, *, hour=3600):
    awake = seconds * per_hour / hour
    return watt_hours / (awake * awake_watts + (1 - awake) * sleep_watts) / 24


@exercise(
    "18.1",
    battery_days,
    {
        "those are hours: a day has 24 of them": lambda *a: battery_days(*a) * 24,
        "a watt-hour is 3,600 joules: mind the unit": lambda *a: battery_days(*a) / 3600,
        "an hour has 3,600 seconds: which share of it is the device awake?": dict(hour=1),
        "an hour has 3,600 seconds, not 60": dict(hour=60),
        "it wakes per_hour times an hour": dict(per_hour=1),
        "it draws sleep_watts between the answers": dict(sleep_watts=0.0),
        "while it is awake it is not asleep: weigh the sleeping power, too": (
            lambda wh, sleep, awake, *rest: battery_days(wh, sleep, awake + sleep, *rest)
        ),
        "the two powers are swapped": (
            lambda wh, sleep, awake, *rest: battery_days(wh, awake, sleep, *rest)
        ),
    },
)
def check_battery_days(answer: Answer) -> None:
    """One number, the days."""
    cases = [(0.675, 1e-5, 0.044, 0.018, 60), (5, 1e-3, 2, 9, 90), (40, 0.3, 0.5, 120, 7)]
    compare(answer, cases, advice="find the mean power first")


def busy_batch(n, m, peak, bandwidth, bytes_per_value, *, whole=math.ceil, never=True, ends=None):
    cost = peak / bandwidth * bytes_per_value
    gain = n * m - cost * (n + m if ends is None else ends(n, m))
    return math.inf if never and gain <= 0 else whole(cost * n * m / gain)


@exercise(
    "18.2",
    busy_batch,
    {
        "no batch is large enough where inputs and outputs alone keep the layer waiting: return "
        "math.inf": dict(never=False),
        "the next smaller batch still waits: round up": dict(whole=math.floor),
        "a batch is a whole number: round up": dict(whole=float),
        "that leaves out the inputs and outputs, which grow with the batch": dict(
            ends=lambda n, m: 0
        ),
        "the layer writes its m outputs, too": dict(ends=lambda n, m: n),
        "the layer reads its n inputs, too": dict(ends=lambda n, m: m),
        "each value has bytes_per_value bytes": dict(bytes_per_value=1),
    },
)
def check_busy_batch(answer: Answer) -> None:
    """One int, or math.inf."""
    cases = [
        (784, 300, 80e9, 20e9, 4),
        (100, 100, 70e9, 10e9, 1),
        (300, 40, 30e9, 8e9, 2),
        (5, 3, 29e9, 16e9, 1),
        (1000, 10, 50e9, 2.5e9, 1),  # inputs and outputs alone keep it waiting
        (64, 64, 80e9, 10e9, 4),  # exactly on the edge
    ]
    compare(answer, cases, advice="set the intensity of a batch of b to the ridge, solve for b")


def largest_payload(
    macs, device_rate, server_rate, uplink, round_trip, *, at_least=lambda b: max(0.0, b), bits=8
):
    return at_least((macs / device_rate - macs / server_rate - round_trip) * uplink / bits)


@exercise(
    "18.3",
    largest_payload,
    {
        "where the server is late even with nothing to send, return 0.0": dict(at_least=float),
        "where the server is late even with nothing to send, return 0.0, not the size of what is "
        "missing": dict(at_least=abs),
        "those are bits: a byte has eight": dict(bits=1),
        "a byte has eight bits: divide by 8, once": dict(bits=64),
        "the round trip takes time, too": dict(round_trip=0.0),
        "the round trip is there and back already: it counts once": (
            lambda *a: largest_payload(*a[:-1], 2 * a[-1])
        ),
        "the server has to compute as well": dict(server_rate=math.inf),
    },
)
def check_largest_payload(answer: Answer) -> None:
    """One number, the bytes."""
    cases = [
        (50e6, 72e6, 30e12, 6e6, 0.06),
        (2e9, 1e9, 4e9, 8e6, 0.1),
        (2e9, 1e9, 4e9, 50, 0.1),  # a radio that reaches far
        (1.3e6, 72e6, 30e12, 6e6, 0.06),
    ]
    compare(answer, cases, advice="the time for sending is what the device needs longer")
