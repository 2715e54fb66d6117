"""Random numbers of samples: functions of (seed, epoch, sample, name), distributed as they say.

The statistical tests have fixed seeds, so they give the same verdict every time. A generator that is as
random as it claims fails each of them with probability FALSE_ALARM.
"""

from __future__ import annotations

import copy
import math
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from equikernels.models.data import SampleDraws, epoch_order
from equikernels.models.data.philox import philox_4x32, philox_words

FALSE_ALARM = 1e-6

KINDS: dict[str, Callable[..., Tensor]] = {
    "uniform": lambda draws, name="x", shape=(): draws.uniform(name, shape, dtype=torch.float64),
    "normal": lambda draws, name="x", shape=(): draws.normal(name, shape, dtype=torch.float64),
    "integers": lambda draws, name="x", shape=(): draws.integers(name, 0, 2**32, shape),
}
every_kind = pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
sample = st.integers(0, 2**63 - 1)
whole = st.integers(-(2**70), 2**70)


# -- the generator -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_the_published_answers_of_philox(counter: str, key: str, expected: str) -> None:
    words = [np.array([int(word, 16)], dtype=np.uint64) for word in counter.split()]
    k0, k1 = (int(word, 16) for word in key.split())
    answer = philox_4x32((words[0], words[1], words[2], words[3]), (k0, k1))
    assert " ".join(f"{int(word[0]):08x}" for word in answer) == expected


def test_words_count_blocks_rows_and_keys() -> None:
    key = bytes(range(1, 13))
    rows = np.array([3, 2**40 + 5], dtype=np.int64)
    words = philox_words(key, rows, 5)
    k0, k1, domain = np.frombuffer(key, dtype="<u4").astype(np.uint64)
    for row, number in enumerate(rows.tolist()):
        for block in range(3):
            counter = [np.array([w], dtype=np.uint64) for w in (block, number % 2**32, number >> 32, domain)]
            parts = [int(w[0]) for w in philox_4x32(tuple(counter), (int(k0), int(k1)))]
            both = [parts[0] + (parts[1] << 32), parts[2] + (parts[3] << 32)]
            assert words[row, 2 * block : 2 * block + 2].tolist() == both[: 5 - 2 * block]


# -- what a draw depends on ----------------------------------------------------------------------------------


@every_kind
@given(seed=whole, epoch=whole, indices=st.lists(sample, max_size=6), data=st.data())
def test_a_row_depends_on_its_own_sample_alone(
    draw: Callable[..., Tensor], seed: int, epoch: int, indices: list[int], data: Any
) -> None:
    together = draw(SampleDraws(seed, epoch, indices), "x", (2, 3))
    assert together.shape == (len(indices), 2, 3)
    order = data.draw(st.permutations(range(len(indices))))
    shuffled = SampleDraws(seed, epoch, torch.tensor([indices[i] for i in order], dtype=torch.int64))
    shuffled.uniform("something else first", (7,))
    assert torch.equal(draw(shuffled, "x", (2, 3)), together[list(order)])
    for row, index in enumerate(indices):
        assert torch.equal(draw(SampleDraws(seed, epoch, [index]), "x", (2, 3))[0], together[row])


@every_kind
@given(seed=whole, epoch=whole, index=sample, name=st.text(min_size=1))
def test_seed_epoch_sample_and_name_all_count(
    draw: Callable[..., Tensor], seed: int, epoch: int, index: int, name: str
) -> None:
    other_sample = index + 1 if index < 2**63 - 1 else 0
    variants = [
        draw(SampleDraws(seed, epoch, [index]), name, (3,)),
        draw(SampleDraws(seed + 1, epoch, [index]), name, (3,)),
        draw(SampleDraws(seed, epoch + 1, [index]), name, (3,)),
        draw(SampleDraws(seed, epoch, [other_sample]), name, (3,)),
        draw(SampleDraws(seed, epoch, [index]), name + " ", (3,)),
    ]
    assert len({tuple(values.flatten().tolist()) for values in variants}) == len(variants)


def test_seed_and_epoch_are_not_read_as_one_number() -> None:
    pairs = [(1, 11), (11, 1), (1, 1), (111, 0), (1, -1), (-1, 1)]
    rows = {tuple(SampleDraws(*pair, [0]).normal("x", (2,))[0].tolist()) for pair in pairs}
    assert len(rows) == len(pairs)


def test_the_kind_of_a_draw_is_part_of_its_name() -> None:
    draws = SampleDraws(0, 0, range(50))
    uniform = draws.uniform("x", dtype=torch.float64)
    from_normal = torch.special.ndtr(draws.normal("x", dtype=torch.float64))
    from_integers = draws.integers("x", 0, 2**32).double() / 2**32
    assert (uniform - from_normal).abs().max() > 0.1
    assert (uniform - from_integers).abs().max() > 0.1


@every_kind
def test_draws_leave_every_other_generator_alone_and_repeat(draw: Callable[..., Tensor]) -> None:
    draws = SampleDraws(1, 2, range(5))
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), copy.deepcopy(np.random.get_state()[1])  # noqa: NPY002
    first = draw(draws)
    assert torch.equal(first, draw(draws))
    assert torch.equal(first, draw(pickle.loads(pickle.dumps(draws))))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_indices_are_copied() -> None:
    indices = torch.arange(4)
    draws = SampleDraws(0, 0, indices)
    expected = draws.uniform("x")
    indices += 1
    assert torch.equal(draws.uniform("x"), expected)


def test_float32_is_float64_rounded() -> None:
    draws = SampleDraws(0, 0, range(100))
    assert torch.equal(draws.uniform("x"), draws.uniform("x", dtype=torch.float64).float())
    assert torch.equal(draws.normal("x"), draws.normal("x", dtype=torch.float64).float())
    assert draws.uniform("x").dtype == torch.float32


# -- distributions -------------------------------------------------------------------------------------------

# Samples one after another, elements of one sample, epochs one after another: no direction may look regular.
DIRECTIONS: dict[str, Callable[[Callable[..., Tensor]], Tensor]] = {
    "samples": lambda draw: draw(SampleDraws(7, 0, range(40_000)), "x"),
    "elements": lambda draw: draw(SampleDraws(7, 0, [11]), "x", (40_000,))[0],
    "epochs": lambda draw: torch.cat([draw(SampleDraws(7, e, range(100)), "x") for e in range(400)]),
    "seeds": lambda draw: torch.cat([draw(SampleDraws(s, 0, range(100)), "x") for s in range(400)]),
    "names": lambda draw: torch.cat([draw(SampleDraws(7, 0, range(100)), f"x{n}") for n in range(400)]),
}
every_direction = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


@every_direction
def test_uniform_numbers_are_uniform_and_unordered(direction: Callable[..., Tensor]) -> None:
    values = direction(KINDS["uniform"]).numpy()
    assert stats.kstest(values, "uniform").pvalue > FALSE_ALARM
    for lag in (1, 2, 100):
        assert stats.pearsonr(values[:-lag], values[lag:]).pvalue > FALSE_ALARM
    # Pairs of neighbours fill the square: 64 cells.
    cells = (values[0::2] * 8).astype(int) * 8 + (values[1::2] * 8).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=64)).pvalue > FALSE_ALARM


@every_direction
def test_normal_numbers_are_normal_and_unordered(direction: Callable[..., Tensor]) -> None:
    values = direction(KINDS["normal"]).numpy()
    assert stats.kstest(values, "norm").pvalue > FALSE_ALARM
    assert stats.normaltest(values).pvalue > FALSE_ALARM
    assert stats.pearsonr(values[:-1], values[1:]).pvalue > FALSE_ALARM


@pytest.mark.parametrize("span", [2, 3, 10, 97])
@pytest.mark.parametrize("low", [0, -5, 2**62])
def test_integers_are_equally_likely(span: int, low: int) -> None:
    values = SampleDraws(3, 1, range(20_000)).integers("k", low, low + span)
    assert values.dtype == torch.int64
    counts = np.bincount((values - low).numpy())
    assert len(counts) == span
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_every_bit_of_wide_integers_is_fair() -> None:
    values = SampleDraws(3, 1, range(20_000)).integers("k", 0, 2**32)
    for bit in range(32):
        ones = int((values >> bit & 1).sum())
        assert stats.binomtest(ones, 20_000).pvalue > FALSE_ALARM


def test_integers_are_the_scaled_word() -> None:
    """The halves of 32 bits carry as one product of 128 bits does."""
    draws, span = SampleDraws(0, 0, range(500)), 2**32 - 5
    words = draws._words("integers", "k", ())
    expected = [-7 + (int(word) * span >> 64) for word in words]
    assert draws.integers("k", -7, -7 + span).tolist() == expected


@given(low=st.floats(-1e300, 1e300), high=st.floats(-1e300, 1e300), seed=st.integers())
def test_uniform_numbers_stay_inside(low: float, high: float, seed: int) -> None:
    low, high = min(low, high), max(low, high)
    values = SampleDraws(seed, 0, range(20)).uniform("x", (), low, high, dtype=torch.float64)
    assert (values >= low).all()
    assert (values < high).all() or low == high


def test_the_ends_of_the_lattice_are_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = SampleDraws(0, 0, [0, 1])
    ends = np.array([0, 2**64 - 1], dtype=np.uint64)
    monkeypatch.setattr(SampleDraws, "_words", lambda *_: ends)
    assert draws.uniform("x", dtype=torch.float64).tolist() == [0.0, 1 - 2.0**-53]
    assert draws.uniform("x", low=1, high=math.nextafter(1, 2), dtype=torch.float64).tolist() == [1.0, 1.0]
    normal = draws.normal("x", dtype=torch.float64)
    assert normal.isfinite().all()
    assert normal[0] < -8
    assert normal[1] > 8
    assert draws.integers("x", -3, 5).tolist() == [-3, 4]


# -- the order of an epoch -----------------------------------------------------------------------------------


@given(seed=whole, epoch=whole, length=st.integers(0, 300))
def test_an_order_holds_every_sample_once(seed: int, epoch: int, length: int) -> None:
    order = epoch_order(seed, epoch, length)
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(length))
    assert torch.equal(order, epoch_order(seed, epoch, length))


def test_orders_change_with_epoch_and_seed_and_never_with_the_version() -> None:
    assert epoch_order(0, 0, 8).tolist() == [5, 4, 2, 3, 1, 7, 0, 6]
    assert not torch.equal(epoch_order(0, 0, 100), epoch_order(0, 1, 100))
    assert not torch.equal(epoch_order(0, 0, 100), epoch_order(1, 0, 100))


def test_all_orders_are_equally_likely() -> None:
    codes = [tuple(epoch_order(0, epoch, 4).tolist()) for epoch in range(4800)]
    assert len(set(codes)) == 24
    counts = [codes.count(code) for code in set(codes)]
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


# -- bad input, and time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SampleDraws(0.5, 0, []), TypeError, "seed: expected an integer, got 0.5"),  # type: ignore[arg-type]
        (lambda: SampleDraws(0, True, []), TypeError, "epoch: expected an integer, got True"),
        (lambda: SampleDraws(0, 0, [-1]), ValueError, "indices: expected none below 0, got -1"),
        (lambda: SampleDraws(0, 0, [1.5]), TypeError, "indices: expected an integer, got 1.5"),  # type: ignore[list-item]
        (lambda: SampleDraws(0, 0, torch.zeros(3)), TypeError, "indices: expected int64, got torch.float32"),
        (
            lambda: SampleDraws(0, 0, torch.zeros(2, 2, dtype=torch.int64)),
            ValueError,
            r"indices: expected one dimension \(B,\), got \(2, 2\)",
        ),
        (lambda: SampleDraws(0, 0, [0]).uniform(""), ValueError, "name: expected a non-empty string, got ''"),
        (lambda: SampleDraws(0, 0, [0]).normal("x", (-1,)), ValueError, "shape: expected no negative sizes"),
        (lambda: SampleDraws(0, 0, [0]).uniform("x", low=1, high=0), ValueError, "low <= high, got 1 and 0"),
        (lambda: SampleDraws(0, 0, [0]).uniform("x", high=math.inf), ValueError, "expected finite numbers"),
        (lambda: SampleDraws(0, 0, [0]).uniform("x", high=math.nan), ValueError, "expected finite numbers"),
        (
            lambda: SampleDraws(0, 0, [0]).normal("x", dtype=torch.float16),
            ValueError,
            "dtype: expected torch.float32 or torch.float64, got torch.float16",
        ),
        (lambda: SampleDraws(0, 0, [0]).integers("x", 0, 0), ValueError, "expected 1 to 2.32 integers"),
        (lambda: SampleDraws(0, 0, [0]).integers("x", 0, 2**33), ValueError, "expected 1 to 2.32 integers"),
        (lambda: SampleDraws(0, 0, [0]).integers("x", 2**63, 2**63 + 1), ValueError, "numbers of 64 bits"),
        (lambda: epoch_order(0, 0, -1), ValueError, "length: expected no negative number, got -1"),
    ],
)
def test_what_is_wrong_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_batch_takes_no_time() -> None:
    """A Python loop over samples would take seconds here; a hundred times the real cost is allowed."""
    draws = SampleDraws(0, 0, range(100_000))
    start = time.perf_counter()
    draws.uniform("angle")
    assert time.perf_counter() - start < 2
