"""Counts and means over table rows. Every person counts once, however many rows are theirs.

A mean is the mean over people of each one's own mean, so that nobody dominates it; it is given
only where at least k people have a value in the cell. With `by`, groups are the different values
of one column; the name of a hidden group is hidden with it, and there is no mean over all groups,
from which a hidden one could be worked out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compute.errors import InputMalformed, NotComputable
from compute.guard import require_cohort, round_mean, suppress
from compute.models import Array

FORMAT = "assent.statistics/1"
MAX_GROUPS = 32
_MAX_LABEL = 64


def tabulate(
    parameters: Mapping[str, Any],
    subjects: Sequence[str],
    columns: Sequence[str],
    rows: Array,
    *,
    labels: Mapping[str, Sequence[str | None]],
    k: int,
) -> dict[str, Any]:
    """The table that may leave, as a JSON value.

    Args:
        parameters: of a `statistics` job: `columns`, `by`, `measures`.
        subjects: of each row.
        columns: names of the numeric columns.
        rows: [n, columns]; NaN is a missing cell.
        labels: text columns by name; None is a missing cell.
        k: minimum cohort.

    Raises:
        InputMalformed: for a column that is not there.
        CohortTooSmall: when fewer than k people are in the table.
        NotComputable: for more than 32 groups.
    """
    require_cohort(len(set(subjects)), k)
    measures = parameters.get("measures", ["count"])
    by = parameters.get("by")
    names = list(parameters.get("columns", []))
    for name in names:
        if name not in columns:
            raise InputMalformed(f"no numeric column {name!r}")
    groups = ["all"] * len(subjects) if by is None else _groups(by, columns, rows, labels)
    people: dict[str, set[str]] = defaultdict(set)
    for group, subject in zip(groups, subjects, strict=True):
        if group is not None:
            people[group].add(subject)
    if len(people) > MAX_GROUPS:
        raise NotComputable(f"{by!r} has more than {MAX_GROUPS} different values")
    table = suppress({group: len(members) for group, members in people.items()}, k)
    cells = []
    for group in sorted(table.cells):
        cell: dict[str, Any] = {"group": None if by is None else group}
        if "count" in measures:
            cell["count"] = table.cells[group]
        if "mean" in measures and table.cells[group]:
            member = np.array([each == group for each in groups])
            cell["mean"] = {
                name: _mean(rows[member, columns.index(name)], _pick(subjects, member), k)
                for name in names
            }
        cells.append(cell)
    return {
        "format": FORMAT,
        "by": by,
        "cells": cells,
        "columns": names,
        "hidden": table.hidden,
        "minCohort": k,
        "total": table.total if "count" in measures else None,
    }


def _groups(
    by: str,
    columns: Sequence[str],
    rows: Array,
    labels: Mapping[str, Sequence[str | None]],
) -> list[str | None]:
    if by in labels:
        texts = labels[by]
        if any(text is not None and len(text) > _MAX_LABEL for text in texts):
            raise NotComputable(f"{by!r} holds long text, not groups")
        return list(texts)
    if by not in columns:
        raise InputMalformed(f"no column {by!r}")
    column = rows[:, columns.index(by)]
    return [None if not np.isfinite(value) else f"{value:g}" for value in column]


def _pick(subjects: Sequence[str], member: np.ndarray[Any, Any]) -> list[str]:
    return [subject for subject, taken in zip(subjects, member, strict=True) if taken]


def _mean(values: Array, subjects: Sequence[str], k: int) -> float | None:
    """Mean of people's means, or None where fewer than k have a value."""
    own: dict[str, list[float]] = defaultdict(list)
    for value, subject in zip(values.tolist(), subjects, strict=True):
        if np.isfinite(value):
            own[subject].append(value)
    if len(own) < k:
        return None
    return round_mean(float(np.mean([np.mean(numbers) for numbers in own.values()])))
