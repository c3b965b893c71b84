import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute import guard
from compute.errors import CohortTooSmall, InputMalformed, NotComputable
from compute.tabulate import tabulate


def test_ten_people_are_too_few_and_eleven_are_not():
    guard.require_cohort(11, 0)
    with pytest.raises(CohortTooSmall) as refused:
        guard.require_cohort(10, 0)
    assert "10" not in str(refused.value)
    with pytest.raises(CohortTooSmall):
        guard.require_cohort(29, 30)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 60), max_size=8), st.integers(0, 30))
def test_no_hidden_cell_can_be_worked_out(counts, asked):
    k = guard.threshold(asked)
    table = guard.suppress(counts, asked)
    hidden = {label: count for label, count in counts.items() if label not in table.cells}
    assert all(count == 0 or count >= k for count in table.cells.values())
    assert table.hidden == bool(hidden)
    if hidden and table.total is not None:
        assert len(hidden) >= 2
        assert sum(hidden.values()) >= k
        assert table.total == sum(counts.values())


def test_a_lone_small_cell_hides_a_second_one():
    table = guard.suppress({"a": 3, "b": 20, "c": 50}, 11)
    assert table.cells == {"c": 50}
    assert table.total == 73
    assert guard.suppress({"a": 3}, 11).total is None
    assert guard.suppress({"a": 0, "b": 11}, 11).cells == {"a": 0, "b": 11}
    with pytest.raises(InputMalformed):
        guard.suppress({"a": -1}, 11)


def test_scores_and_means_are_rounded():
    assert guard.round_score(0.12345) == 0.12
    assert guard.round_score(0.12345, 3) == 0.123
    assert str(guard.round_score(-0.001)) == "0.0"
    assert guard.round_mean(123456.0) == 123000.0
    for digits in (4, -1):
        with pytest.raises(InputMalformed):
            guard.round_score(0.5, digits)
    for function in (guard.round_score, guard.round_mean):
        with pytest.raises(NotComputable):
            function(float("nan"))


def test_a_result_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(guard, "MAX_RESULT_BYTES", 3)
    assert guard.require_size(b"abc") == b"abc"
    with pytest.raises(NotComputable):
        guard.require_size(b"abcd")


def table_of(sizes, *, repeat=1, **parameters):
    subjects = [f"s{index}" for index in range(sum(sizes))] * repeat
    group = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    rows = np.column_stack([np.tile(group, repeat), np.tile(group * 10 + 1, repeat)])
    return tabulate(
        parameters, subjects, ("sex", "age"), rows, labels={"site": ["x"] * len(rows)}, k=11
    )


def test_counts_are_of_people_and_not_of_rows():
    assert table_of([20], repeat=3)["cells"] == [{"group": None, "count": 20}]
    with pytest.raises(CohortTooSmall):
        table_of([10], repeat=3)


def test_a_small_group_loses_its_count_its_mean_and_its_name():
    found = table_of([40, 30, 5], by="sex", columns=["age"], measures=["count", "mean"])
    assert found["cells"] == [{"group": "0", "count": 40, "mean": {"age": 1.0}}]
    assert found["hidden"]
    assert found["total"] == 75


def test_a_mean_needs_enough_people_with_a_value():
    rows = np.full((20, 1), np.nan)
    rows[:10] = 5.0
    subjects = [f"s{index}" for index in range(20)]
    words = {"columns": ["age"], "measures": ["mean"]}
    found = tabulate(words, subjects, ("age",), rows, labels={}, k=11)
    assert found["cells"][0]["mean"] == {"age": None}
    rows[10] = 5.0
    found = tabulate(words, subjects, ("age",), rows, labels={}, k=11)
    assert found["cells"][0]["mean"] == {"age": 5.0}


def test_nobody_dominates_a_mean():
    subjects = [f"s{index}" for index in range(19)] + ["rich"] * 81
    rows = np.array([[0.0]] * 19 + [[100.0]] * 81)
    words = {"columns": ["age"], "measures": ["mean"]}
    found = tabulate(words, subjects, ("age",), rows, labels={}, k=11)
    assert found["cells"][0]["mean"] == {"age": 5.0}


def test_groups_come_from_text_columns_too_but_never_from_free_text():
    assert table_of([20], by="site")["cells"] == [{"group": "x", "count": 20}]
    with pytest.raises(InputMalformed):
        table_of([20], by="ward")
    with pytest.raises(InputMalformed):
        table_of([20], columns=["ward"], measures=["mean"])
    with pytest.raises(NotComputable):
        table_of([1] * 40, by="sex")
    long = {"note": ["a word " * 20] * 20}
    with pytest.raises(NotComputable):
        tabulate(
            {"by": "note"}, [str(i) for i in range(20)], (), np.zeros((20, 0)), labels=long, k=11
        )
