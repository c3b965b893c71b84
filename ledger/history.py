"""What a subject's consent chain of leaves says about each consent (D15): leaf order decides.

The gate's rows and the auditor's proof must agree on this, so both may ask here. Rules: a grant or
an objection begins as draft; the record on the chain makes it active; a withdrawal ends a permit at
once, for good. An objection is lifted by the identity key's Lift followed by the record that the
chain ended it; the chain's withdrawal alone never lifts it (D2).
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.consent import ConsentStatus
from ledger.errors import IllegalTransition
from ledger.ids import ConsentId
from ledger.leaf import Kind


def statuses(steps: Iterable[tuple[Kind, ConsentId]]) -> dict[ConsentId, ConsentStatus]:
    """Return each consent's state after these leaves (kind and consent id) in chain order.

    Raises IllegalTransition for a second beginning of one id, a step of an id that never began, a
    lift of a permit, or a kind that is no change of consent.
    """
    found: dict[ConsentId, ConsentStatus] = {}
    objections: set[ConsentId] = set()
    lifting: set[ConsentId] = set()
    for kind, consent in steps:
        if kind is Kind.SUBJECT_ENROLLED:
            continue
        if kind in (Kind.CONSENT_GRANTED, Kind.OBJECTION_RECORDED):
            if consent in found:
                raise IllegalTransition(f"consent {consent} begins twice")
            found[consent] = ConsentStatus.DRAFT
            if kind is Kind.OBJECTION_RECORDED:
                objections.add(consent)
            continue
        if consent not in found:
            raise IllegalTransition(f"consent {consent} never began")
        if kind is Kind.CONSENT_RECORDED:
            if consent in lifting:
                found[consent] = ConsentStatus.INACTIVE
            elif found[consent] is ConsentStatus.DRAFT:
                found[consent] = ConsentStatus.ACTIVE
        elif kind is Kind.CONSENT_WITHDRAWN:
            if consent not in objections:
                found[consent] = ConsentStatus.INACTIVE
        elif kind is Kind.OBJECTION_LIFTED and consent in objections:
            lifting.add(consent)
        else:
            raise IllegalTransition(f"a leaf of kind {int(kind)} cannot follow for {consent}")
    return found
