"""Whatever stands around it, a planted identifier goes, and what leaves passes inspection."""

from __future__ import annotations

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from anonymize.context import PatientContext
from anonymize.deidentify import Deidentifier, Inspector, Quarantined, Record, Released
from anonymize.keys import DeidentificationKey
from anonymize.profile import SAFE_HARBOR
from anonymize.shadow import fold, shadow
from anonymize.shifting import shift, shift_iso

KEY = DeidentificationKey(bytes(range(32)))
CONTEXT = PatientContext(
    "s",
    names=("Zyxwvut Qwertop",),
    identifiers=("QX-4711-0815",),
    phones=("412-555-0199",),
    emails=("zq@example.org",),
)
WORKER = Deidentifier(SAFE_HARBOR, KEY, today=date(2026, 1, 1), timeout_seconds=30)
INSPECTOR = Inspector(timeout_seconds=30)
PLANTED = st.sampled_from(
    [
        ("Zyxwvut", "zyxwvut"),
        ("QWERTOP, ZYXWVUT", "qwertop"),
        ("QX47110815", "0815"),
        ("(412) 555 0199", "0199"),
        ("zq@example.org", "zq@"),
        ("SSN 078-05-1120", "1120"),
        ("MRN: 5512345", "5512345"),
        ("Dr. Bartholomew", "bartholomew"),
    ]
)
AROUND = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(AROUND, PLANTED, AROUND)
def test_a_planted_identifier_never_leaves(
    before: str, planted: tuple[str, str], after: str
) -> None:
    text = f"{before}\n{planted[0]}\n{after}"
    outcome = WORKER.deidentify(Record("note", "s", text, CONTEXT))
    if isinstance(outcome, Quarantined):
        assert outcome.reason_code in {"bad-encoding", "leak"}
        return
    assert isinstance(outcome, Released)
    assert isinstance(outcome.record.content, str)
    left = fold(outcome.record.content)
    assert left.count(planted[1]) <= fold(before).count(planted[1]) + fold(after).count(planted[1])
    assert INSPECTOR.inspect(outcome.record) == []


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_a_shadow_has_the_length_of_its_text(text: str) -> None:
    assert len(shadow(text)) == len(fold(text)) == len(text)


@settings(max_examples=200, deadline=None)
@given(st.dates(date(1990, 1, 1), date(2024, 12, 31)), st.integers(-365, -1))
def test_shifting_agrees_in_all_forms(when: date, days: int) -> None:
    today = date(2026, 1, 1)
    iso = shift_iso(when.isoformat(), days, today)
    assert iso is not None
    moved = date.fromisoformat(iso)
    assert (moved - when).days == days
    for form in ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d", "%B %d, %Y", "%d %b %Y", "%d-%b-%Y"):
        if when.month == 5 and "%b" in form:
            continue  # "May" is whole and abbreviated at once
        assert shift(when.strftime(form), days, today) == moved.strftime(form)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_shifting_anything_never_fails(text: str) -> None:
    shift(text, -100, date(2026, 1, 1))
    shift_iso(text, -100, date(2026, 1, 1))
