"""A query: typed filters over covered records; rows where rows are permitted, else suppressed counts."""

from __future__ import annotations

import json
from typing import Any, Final

from exchange.filters import first, matcher
from exchange.sealing import result_info, seal_to
from exchange.worker.child import Input
from exchange.worker.refusal import Refused
from ledger.ids import JobId

#: No count from 1 to 10 leaves (CMS cell size policy).
SMALLEST_COUNT: Final = 11
MOST_ROWS: Final = 100_000


def query(given: Input) -> tuple[dict[str, Any], bytes]:
    """Apply the filters to every covered record; the answer is sealed to the requester."""
    parameters = given.task["parameters"]
    tests = [matcher(one) for one in parameters["filters"]]
    wanted: list[str] = parameters.get("columns", [])
    rows: list[list[Any]] = []
    found: dict[str, int] = {}
    scanned: set[str] = set()
    total = int(given.task["parts"])
    for done, (subject, records) in enumerate(given.parts(), start=1):
        scanned.add(subject.hex)
        for record in records:
            content = record["content"]
            if not all(test(content) for test in tests):
                continue
            found[subject.hex] = found.get(subject.hex, 0) + 1
            if parameters["want"] == "rows":
                if len(rows) == MOST_ROWS:
                    raise Refused("too-many-rows")
                rows.append([subject.hex, *[first(content, field) for field in wanted]])
        if done % 50 == 0:
            given.lines.progress(done, total)
    still = given.lines.covered(sorted(scanned))
    used = sorted(set(scanned) & set(still))
    if parameters["want"] == "rows":
        kept = [row for row in rows if row[0] in still]
        answer: dict[str, Any] = {
            "want": "rows",
            "columns": ["subject", *wanted],
            "rows": kept,
        }
    else:
        subjects = sum(who in still for who in found)
        records_found = sum(count for who, count in found.items() if who in still)
        hidden = 0 < subjects < SMALLEST_COUNT
        answer = {
            "want": "count",
            "subjects": None if hidden else subjects,
            "records": None if hidden else records_found,
            "suppressedBelow": SMALLEST_COUNT,
        }
    payload = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    job = JobId.parse(given.task["job"])
    sealed = seal_to(bytes.fromhex(given.task["receiveKey"][2:]), payload, info=result_info(job))
    dropped = sorted(scanned - set(still))
    return {"used": used, "dropped": dropped, "media": "application/json"}, sealed
