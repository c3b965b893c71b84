"""Which identifier gets which treatment.

The identifiers are those of HIPAA's Safe Harbor, 45 CFR 164.514(b)(2)(i)(A)-(R), with geographic
subdivisions told apart by how they are written (place, ZIP code, facility). Biometrics and
photographs (P, Q) do not occur in text: attachments that are not plain text are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from anonymize.errors import ProfileError


class Identifier(StrEnum):
    """Kinds of identifying information; the letter is that of 164.514(b)(2)(i)."""

    NAME = "NAME"  # A
    LOCATION = "LOCATION"  # B: street addresses, cities, counties
    ZIP = "ZIP"  # B
    FACILITY = "FACILITY"  # B: hospitals, schools, employers
    DATE = "DATE"  # C
    AGE = "AGE"  # C: ages over 89
    PHONE = "PHONE"  # D
    FAX = "FAX"  # E
    EMAIL = "EMAIL"  # F
    SSN = "SSN"  # G
    MRN = "MRN"  # H
    HEALTH_PLAN = "HEALTH_PLAN"  # I
    ACCOUNT = "ACCOUNT"  # J
    LICENCE = "LICENCE"  # K
    VEHICLE = "VEHICLE"  # L
    DEVICE = "DEVICE"  # M
    URL = "URL"  # N
    IP = "IP"  # O
    CODE = "CODE"  # R: any other unique number or code


class Treatment(StrEnum):
    """What happens to an identifier that was found."""

    REDACT = "redact"  # replaced by its kind, e.g. [PHONE]
    PSEUDONYM = "pseudonym"  # replaced by a keyed code, the same for the same person or number
    DATE_SHIFT = "date_shift"  # moved by the patient's own secret number of days
    GENERALISE = "generalise"  # made coarser: 90+, ZIP3, year
    KEEP = "keep"


@dataclass(frozen=True)
class Profile:
    """A named table from identifier to treatment. Every identifier must be listed."""

    name: str
    treatments: Mapping[Identifier, Treatment]

    def __post_init__(self) -> None:
        """Refuse a table with holes or a treatment that means nothing for its identifier."""
        missing = [i.value for i in Identifier if i not in self.treatments]
        if missing:
            raise ProfileError(f"profile {self.name} says nothing about {', '.join(missing)}")
        for identifier, treatment in self.treatments.items():
            if treatment is Treatment.DATE_SHIFT and identifier is not Identifier.DATE:
                raise ProfileError(f"profile {self.name}: {identifier.value} cannot be shifted")
            if treatment is Treatment.GENERALISE and identifier not in _GENERALISED:
                raise ProfileError(f"profile {self.name}: {identifier.value} has no coarser form")
        object.__setattr__(self, "treatments", MappingProxyType(dict(self.treatments)))

    def treatment(self, identifier: Identifier) -> Treatment:
        """Return the treatment of `identifier`."""
        return self.treatments[identifier]

    def keeps(self, identifier: Identifier) -> bool:
        """Tell whether `identifier` stays as it is under this profile."""
        return self.treatments[identifier] is Treatment.KEEP


_GENERALISED = frozenset({Identifier.DATE, Identifier.AGE, Identifier.ZIP})

_SAFE: dict[Identifier, Treatment] = {
    Identifier.NAME: Treatment.PSEUDONYM,
    Identifier.LOCATION: Treatment.REDACT,
    Identifier.ZIP: Treatment.GENERALISE,
    Identifier.FACILITY: Treatment.PSEUDONYM,
    Identifier.DATE: Treatment.DATE_SHIFT,
    Identifier.AGE: Treatment.GENERALISE,
    Identifier.PHONE: Treatment.REDACT,
    Identifier.FAX: Treatment.REDACT,
    Identifier.EMAIL: Treatment.REDACT,
    Identifier.SSN: Treatment.REDACT,
    Identifier.MRN: Treatment.PSEUDONYM,
    Identifier.HEALTH_PLAN: Treatment.PSEUDONYM,
    Identifier.ACCOUNT: Treatment.PSEUDONYM,
    Identifier.LICENCE: Treatment.REDACT,
    Identifier.VEHICLE: Treatment.REDACT,
    Identifier.DEVICE: Treatment.PSEUDONYM,
    Identifier.URL: Treatment.REDACT,
    Identifier.IP: Treatment.REDACT,
    Identifier.CODE: Treatment.PSEUDONYM,
}

SAFE_HARBOR = Profile("safe-harbor", _SAFE)
"""45 CFR 164.514(b)(2) with two keyed substitutes in place of bare removal: pseudonyms, which
164.514(c) allows because nobody without the hospital's key can derive or undo them, and dates
moved by a secret number of days per patient. Where a reviewer wants the letter of (C), that is,
nothing of a date but its year, use `SAFE_HARBOR_YEARS`."""

SAFE_HARBOR_YEARS = Profile("safe-harbor-years", {**_SAFE, Identifier.DATE: Treatment.GENERALISE})
"""As `SAFE_HARBOR`, but of every date only the year stays."""

LIMITED_DATASET = Profile(
    "limited-dataset",
    {
        **_SAFE,
        Identifier.DATE: Treatment.KEEP,
        Identifier.AGE: Treatment.KEEP,
        Identifier.ZIP: Treatment.KEEP,
    },
)
"""45 CFR 164.514(e): dates, ages and ZIP codes stay, under a data use agreement. Towns, which (e)
would allow as well, are redacted, since in free text a town cannot be told from a street."""

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {p.name: p for p in (SAFE_HARBOR, SAFE_HARBOR_YEARS, LIMITED_DATASET)}
)


def named(name: str) -> Profile:
    """Return the profile called `name`.

    Raises:
        ProfileError: no such profile.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise ProfileError(f"unknown profile; known: {', '.join(sorted(PROFILES))}") from None
