"""The treatments that Presidio lacks: keyed pseudonyms, shifted dates, coarser values.

Presidio's own `hash` draws a new salt per mention and its `encrypt` is not authenticated; neither
is used. An operator sees the text of one mention and the parameters of the call, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import regex
from presidio_anonymizer.entities import OperatorConfig
from presidio_anonymizer.operators import Operator, OperatorType

from anonymize.errors import ProfileError
from anonymize.keys import DeidentificationKey
from anonymize.profile import Identifier, Profile, Treatment
from anonymize.shadow import fold
from anonymize.shifting import shift, year_only

RESTRICTED_ZIP3 = frozenset(
    "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893".split()
)
"""Areas of 20 000 people or fewer by the 2000 census (HHS guidance on 164.514(b)(2)(i)(B))."""

OVER_89 = "90+"


def normalised(value: str) -> str:
    """Return the form in which two spellings of one identifier are the same."""
    return str(regex.sub(r"[^\p{L}\d]", "", fold(value)))


def coarse_zip(value: str) -> str:
    """Return the first three digits, or `000**` where too few people live (or no ZIP is read)."""
    digits = "".join(c for c in fold(value) if c.isdigit())
    if len(digits) not in {5, 9} or digits[:3] in RESTRICTED_ZIP3:
        return "000**"
    return digits[:3] + "**"


class _Treatment(Operator):
    """What all three share: they are parameters in, text out."""

    needs: tuple[str, ...] = ()

    def validate(self, params: dict[str, Any] | None = None) -> None:
        """Refuse to run without every parameter.

        Raises:
            ProfileError: a parameter is missing.
        """
        missing = [name for name in self.needs if name not in (params or {})]
        if missing:
            raise ProfileError(f"{self.operator_name()} needs {', '.join(missing)}")

    def operator_type(self) -> OperatorType:
        """Return that this replaces."""
        return OperatorType.Anonymize


class KeyedPseudonym(_Treatment):
    """`[KIND-xxxxxxxxxx]`: HMAC-SHA256 over kind, subject and the normalised value.

    `canonical` maps the normalised mention to the person it was found to mean, so that "DOE, JOHN",
    "Mr. Doe" and "John" get one pseudonym.
    """

    needs = ("key", "subject", "canonical", "entity_type")

    def operate(self, text: str, params: dict[str, Any] | None = None) -> str:
        """Return the pseudonym of `text`."""
        given = params or {}
        kind = str(given["entity_type"])
        value = normalised(text)
        value = given["canonical"].get(value, value)
        return f"[{kind}-{given['key'].pseudonym(kind, given['subject'], value)}]"

    def operator_name(self) -> str:
        """Return the name by which the profile's table is applied."""
        return "keyed_pseudonym"


class ShiftDate(_Treatment):
    """The date in its own form, moved by the subject's number of days."""

    needs = ("days", "today")

    def operate(self, text: str, params: dict[str, Any] | None = None) -> str:
        """Return the moved date, its year, or `[DATE]`."""
        given = params or {}
        return shift(text, given["days"], given["today"])

    def operator_name(self) -> str:
        """Return the name by which the profile's table is applied."""
        return "shift_date"


class Generalise(_Treatment):
    """Ages over 89 as `90+`, ZIP codes as three digits, dates as their year."""

    needs = ("entity_type", "today")

    def operate(self, text: str, params: dict[str, Any] | None = None) -> str:
        """Return the coarser form of `text`."""
        given = params or {}
        kind = given["entity_type"]
        if kind == Identifier.AGE:
            return OVER_89
        if kind == Identifier.ZIP:
            return coarse_zip(text)
        if kind == Identifier.DATE:
            return year_only(text, given["today"])
        raise ProfileError(f"{kind} has no coarser form")

    def operator_name(self) -> str:
        """Return the name by which the profile's table is applied."""
        return "generalise"


def operators_for(
    profile: Profile,
    key: DeidentificationKey,
    subject: str,
    *,
    today: date,
    canonical: Mapping[str, str],
) -> dict[str, OperatorConfig]:
    """Return Presidio's table from entity to operator for one subject."""
    table = {}
    for identifier in Identifier:
        treatment = profile.treatment(identifier)
        if treatment is Treatment.REDACT:
            config = OperatorConfig("replace", {"new_value": f"[{identifier.value}]"})
        elif treatment is Treatment.PSEUDONYM:
            people = canonical if identifier is Identifier.NAME else {}
            config = OperatorConfig(
                "keyed_pseudonym", {"key": key, "subject": subject, "canonical": people}
            )
        elif treatment is Treatment.DATE_SHIFT:
            days = key.shift_days(subject)
            config = OperatorConfig("shift_date", {"days": days, "today": today})
        elif treatment is Treatment.GENERALISE:
            config = OperatorConfig("generalise", {"today": today})
        else:
            config = OperatorConfig("keep", {})
        table[identifier.value] = config
    table["DEFAULT"] = OperatorConfig("replace", {"new_value": "[REDACTED]"})
    return table
