import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.inference.assignment import best_pairs


def test_the_sum_counts_and_not_the_best_pair():
    # 0-0 is the best pair; but 0.9 + 0.1 is less than 0.8 + 0.7.
    assert best_pairs([0, 0, 1, 1], [0, 1, 0, 1], [0.9, 0.8, 0.7, 0.1]) == {0: 1, 1: 0}


def test_a_row_stays_alone_where_that_leaves_more():
    # One column for two rows; and 1.0 alone is more than 0.3 + 0.4.
    assert best_pairs([0, 1], [5, 5], [0.2, 0.6]) == {1: 5}
    assert best_pairs([0, 1, 1], [0, 0, 1], [0.3, 1.0, 0.4]) == {1: 0}


def test_nothing_to_pair():
    assert best_pairs([], [], []) == {}


def most(gains, row, rows, used):
    """The largest sum of gains of rows from ``row`` on, tried out."""
    if row == rows:
        return 0.0
    best = most(gains, row + 1, rows, used)
    for (r, column), gain in gains.items():
        if r == row and column not in used:
            best = max(best, gain + most(gains, row + 1, rows, used | {column}))
    return best


# Few different gains, so that there are ties; and some that rounding cannot add up.
gains_of_pairs = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.sampled_from([0.1, 0.3, 0.7, 1.0, 1 / 3]) | st.floats(0.01, 2.0),
    max_size=16,
)


@settings(max_examples=300)
@given(gains_of_pairs)
def test_no_other_pairs_have_a_larger_sum(gains):
    rows, columns = [r for r, _ in gains], [c for _, c in gains]
    pairs = best_pairs(rows, columns, list(gains.values()))
    assert set(pairs.items()) <= set(gains)
    assert len(set(pairs.values())) == len(pairs)
    total = sum(gains[pair] for pair in pairs.items())
    assert abs(total - most(gains, 0, 5, frozenset())) < 1e-9


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-9, 1e9]))
def test_many_competing_pairs_end(seed, scale):
    """Thirty for thirty: sums that differ by rounding alone must not send the search in circles."""
    values = scale * np.random.default_rng(seed).integers(1, 12, 900) / 7
    rows = [i // 30 for i in range(900)]
    columns = [i % 30 for i in range(900)]
    pairs = best_pairs(rows, columns, values.tolist())
    assert sorted(pairs.values()) == list(range(30))
