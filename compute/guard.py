"""What may leave: cohorts, small cells, rounding, sizes. Pure.

Rules, with where they come from:

- An aggregate needs at least `k` distinct people, 11 by default (CMS; threats P2). A requester may
  raise k, never lower it (compute-promises J15).
- A count of 1 to k-1 is hidden; zero may be shown. A hidden count must not follow from the others
  and the total, so further cells are hidden until the hidden ones are at least two and together
  at least k; where that cannot be, the total is hidden.
- A score has at most 3 decimals, 2 by default (threats P5). A mean has 3 significant digits.
- A decrypted score has 2 decimals: well above the noise of every preset, so that what is passed on
  carries nothing of it (Li-Micciancio, IND-CPA-D; threats P9).
- A result has at most 64 MiB.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compute.errors import CohortTooSmall, InputMalformed, NotComputable
from compute.job import MIN_COHORT

SCORE_DIGITS = 2
MAX_SCORE_DIGITS = 3
MEAN_DIGITS = 3
DECRYPTED_DIGITS = 2
MAX_RESULT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Table:
    """Counts that may leave.

    Attributes:
        cells: label → count; hidden cells are absent.
        total: sum of all cells, or None where it would give a hidden cell away.
        hidden: whether any cell was hidden.
    """

    cells: Mapping[str, int]
    total: int | None
    hidden: bool


def threshold(asked: int) -> int:
    """The minimum cohort in force: the stricter of the house's and the requester's."""
    return max(MIN_COHORT, asked)


def require_cohort(people: int, k: int) -> None:
    """Let an aggregate over `people` distinct people pass.

    Raises:
        CohortTooSmall: when they are fewer than the threshold.
    """
    if people < threshold(k):
        raise CohortTooSmall(threshold(k))


def suppress(counts: Mapping[str, int], k: int) -> Table:
    """Hide small cells, and as many others as it takes that they cannot be worked out.

    Raises:
        InputMalformed: for a negative count.
    """
    k = threshold(k)
    if any(count < 0 for count in counts.values()):
        raise InputMalformed("a count is negative")
    hidden = {label for label, count in counts.items() if 0 < count < k}
    total: int | None = sum(counts.values())
    while hidden and (len(hidden) == 1 or sum(counts[label] for label in hidden) < k):
        rest = sorted((count, label) for label, count in counts.items() if label not in hidden)
        others = [label for count, label in rest if count > 0]
        if not others:
            total = None
            break
        hidden.add(others[0])
    shown = {label: count for label, count in counts.items() if label not in hidden}
    return Table(cells=shown, total=total, hidden=bool(hidden))


def score_digits(asked: int) -> int:
    """Decimals of a score.

    Raises:
        InputMalformed: for more than the house gives, or fewer than none.
    """
    if not 0 <= asked <= MAX_SCORE_DIGITS:
        raise InputMalformed(f"a score has at most {MAX_SCORE_DIGITS} decimals")
    return asked


def round_score(value: float, digits: int = SCORE_DIGITS) -> float:
    """A score as it may leave.

    Raises:
        NotComputable: when the score is not a number; nothing is guessed in its place.
    """
    if not math.isfinite(value):
        raise NotComputable("a score is not a finite number")
    return round(float(value), score_digits(digits)) + 0.0


def round_mean(value: float) -> float:
    """A mean to three significant digits.

    Raises:
        NotComputable: when it is not a finite number.
    """
    if not math.isfinite(value):
        raise NotComputable("a mean is not a finite number")
    return float(f"{value:.{MEAN_DIGITS}g}")


def require_size(payload: bytes) -> bytes:
    """The payload, where it is not larger than a result may be.

    Raises:
        NotComputable: otherwise.
    """
    if len(payload) > MAX_RESULT_BYTES:
        raise NotComputable(f"a result has at most {MAX_RESULT_BYTES} bytes")
    return payload
