"""Which mentions of a name mean the same person (the token-subset rule).

"DOE, JOHN", "Mr. Doe", "J. Doe" and "John" are one person if every word of the mention is a word, or
the initial of a word, of that person's name. People of the patient's own record come first; what is
left is gathered around the longest mention in the note.
"""

from __future__ import annotations

from collections.abc import Iterable

from anonymize.context import PatientContext, name_tokens
from anonymize.operators import normalised


def canonical(mentions: Iterable[str], context: PatientContext | None) -> dict[str, str]:
    """Return for every normalised mention the value whose pseudonym stands for the person."""
    people = [] if context is None else context.persons()
    listed = {m: name_tokens(m) for m in mentions}
    # Longest first, so that a short mention finds the long one it belongs to.
    ordered = sorted(listed.items(), key=lambda item: (-len("".join(item[1])), item[0]))
    out: dict[str, str] = {}
    for mention, tokens in ordered:
        value = normalised(mention)
        if not tokens or value in out:
            continue
        person = next((who for who, name in people if _means(tokens, name)), None)
        if person is None:
            person = "person:" + " ".join(sorted(tokens))
            people.append((person, tokens))
        out[value] = person
    return out


def _means(mention: tuple[str, ...], name: tuple[str, ...]) -> bool:
    whole = set(name) | {t.rstrip("0123456789") for t in name}
    run_together = {a + b for a in name for b in name} | {a[0] + b for a in name for b in name}
    matched = [t for t in mention if t in whole or (len(t) > 1 and t in run_together)]
    initials = [t for t in mention if len(t) == 1 and any(n.startswith(t) for n in name)]
    # An initial alone means nobody in particular.
    return bool(matched) and len(matched) + len(initials) == len(mention)
