"""Numbers that a label announces: SSN, record, plan, account, licence, vehicle, device, other.

164.514(b)(2)(i)(G)-(M) and (R). Formats: SSA's SSN (area-group-serial), CMS's MBI (11 characters),
ISO 3779's VIN (17 characters without I, O, Q), ISO 13616's IBAN, FDA's UDI (GS1 element strings).
"""

from __future__ import annotations

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.pattern import LIKELY, Pattern, PatternFamily

_NO = r"(?:\s*(?:\(\s*)?(?:no\b\.?|nos\b\.?|num(?:ber)?s?\b|nbr\b|id\b|i\.d\.|identifier|code|#|№)\s*\)?)*"
_IS = r"(?:\s*(?:is|was|are|of|ending(?: in| with)?|:|=|#|-|\())*\s*"
_VALUE = r"(?P<v>(?=[\p{L}\-./]{0,12}\d)[\p{L}\d](?:[\p{L}\d\-./]{1,28}[\p{L}\d]))"


NUMBER = r"\d[\d\-./]*\p{L}*\d"


def _labelled(kind: Identifier, labels: str, *gate: str, number: str = _NO) -> Pattern:
    return Pattern(
        rf"(?<![\p{{L}}\d])(?:{labels}){number}{_IS}{_VALUE}(?![\p{{L}}\d])"
        r"(?!\s*(?:mg|mcg|ml|cc|g|kg|units?|mm|cm|k?cal|%|bpm|mmhg|patients|times)\b)",
        kind=kind,
        gate=gate,
        near=NUMBER,
        check=_not_measure,
        case=False,
    )


_MEASURE = regex.compile(
    r"\d+(?:\.\d+)?(?:mg|mcg|ml|kg|cm|mm|g|%|st|nd|rd|th|x|yo|y|days?|weeks?)?", regex.IGNORECASE
)
_DATE = regex.compile(
    r"\d{1,2}([-/.])\d{1,2}(?:\1(?:19|20)?\d\d)?|(?:19|20)\d\d([-/.])\d{1,2}\2\d{1,2}(?:T.*)?"
    r"|\d{1,2}-\p{L}{3,9}-\d{2,4}",
    regex.IGNORECASE,
)


def _not_measure(match: regex.Match[str]) -> bool:
    value = match.group("v")
    if sum(c.isdigit() for c in value) < 3 or _DATE.fullmatch(value):
        return False
    return len(value) >= 4 or not _MEASURE.fullmatch(value)


def _luhn(match: regex.Match[str]) -> bool:
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _vin(match: regex.Match[str]) -> bool:
    text = match.group()
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


PATTERNS = (
    Pattern(r"(?<![\d\p{L}\-])(?P<v>\d{3}[- .]\d{2}[- .]\d{4})(?![\d]|-\d)", kind=Identifier.SSN),
    Pattern(
        r"\b(?:ssn|ss#|ss no|soc(?:ial)?\.?\s+sec(?:urity)?)\b[^\n\d*xX]{0,24}(?P<v>[\dxX*][\dxX*\-. ]{2,10}\d)(?!\d)",
        kind=Identifier.SSN,
        gate=("ss", "soc"),
        case=False,
    ),
    Pattern(
        r"(?<![\p{L}\d])(?:xxx|\*\*\*)[-\s](?:xx|\*\*)[-\s](?P<v>\d{4})(?!\d)",
        kind=Identifier.SSN,
        case=False,
    ),
    _labelled(
        Identifier.MRN,
        r"mrn|mr|mr#|m\.r\.n\.?|med(?:ical)?\.?\s*rec(?:ord)?\.?|chart|patient\s*(?:id|no|number|#)|pt\.?\s*(?:id|no|#)|hosp(?:ital)?\s*(?:id|no|number|#)|unit\s*(?:no|number|#)|record\s*(?:id|no|number|#)|ehr|emr|empi|nhs|hospital\s+record",
        "mr",
        "m.r",
        "med",
        "chart",
        "patient",
        "pt",
        "hosp",
        "unit",
        "record",
        "ehr",
        "emr",
        "empi",
        "nhs",
    ),
    _labelled(
        Identifier.HEALTH_PLAN,
        r"(?:health\s*)?(?:plan|insurance|insur|ins\.?|policy|member(?:ship)?|subscriber|beneficiary|group|medicare|medicaid|mbi|hicn?|payer|bcbs|aetna|cigna|humana|tricare|blue\s*cross(?:\s*blue\s*shield)?|kaiser|rxbin|rxgrp|rxpcn)",
        "plan",
        "ins",
        "policy",
        "member",
        "subscriber",
        "benef",
        "group",
        "medica",
        "mbi",
        "hic",
        "payer",
        "bcbs",
        "aetna",
        "cigna",
        "humana",
        "tricare",
        "blue",
        "kaiser",
        "rx",
    ),
    Pattern(
        r"(?<![\p{L}\d])[1-9][AC-HJ-NP-RT-Y][AC-HJ-NP-RT-Y0-9]\d-?[AC-HJ-NP-RT-Y][AC-HJ-NP-RT-Y0-9]\d-?[AC-HJ-NP-RT-Y]{2}\d{2}(?![\p{L}\d])",
        kind=Identifier.HEALTH_PLAN,
    ),
    _labelled(
        Identifier.ACCOUNT,
        r"acct\.?|account|a/c|billing|invoice|claim|iban|routing|aba|swift|credit\s*card|debit\s*card|card|fin|guarantor|swift|tax\s*id|ein|itin|tin",
        "ac",
        "a/c",
        "bill",
        "invoice",
        "claim",
        "iban",
        "routing",
        "aba",
        "card",
        "fin",
        "guarantor",
        "tax",
        "ein",
        "itin",
        "tin",
    ),
    Pattern(r"(?<![\p{L}\d])(?:\d[ -]?){12,18}\d(?![\d])", kind=Identifier.ACCOUNT, check=_luhn),
    Pattern(
        r"(?<![\p{L}\d])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){3,7}(?:[ ]?[A-Z0-9]{1,3})?(?![\p{L}\d])",
        kind=Identifier.ACCOUNT,
    ),
    _labelled(
        Identifier.LICENCE,
        r"lic(?:en[cs]e)?\.?|driver['’]?s?(?:\s+lic(?:en[cs]e)?)?|d/?l|dea|npi|upin|certificate|cert\.?|passport|permit|visa|green\s*card|registration|national\s*(?:id|insurance)|state\s*id|voter",
        "lic",
        "driver",
        "dl",
        "d/l",
        "dea",
        "npi",
        "upin",
        "cert",
        "passport",
        "permit",
        "visa",
        "green",
        "registration",
        "national",
        "state",
        "voter",
    ),
    Pattern(r"(?<![\p{L}\d])[ABFGMPR][A-Z9]\d{7}(?!\d)", kind=Identifier.LICENCE),
    Pattern(r"(?<![\p{L}\d])[A-HJ-NPR-Z0-9]{17}(?![\p{L}\d])", kind=Identifier.VEHICLE, check=_vin),
    Pattern(
        r"\b(?:licen[cs]e\s+)?plates?\b(?:\s*(?:number|no\.?|#|is|was|:|reads?))*\s*(?P<v>(?=[\p{L}\- ]{0,8}\d)[A-Z0-9]{1,4}[- ]?[A-Z0-9]{2,5}|[A-Z0-9]{5,8})\b",
        kind=Identifier.VEHICLE,
        gate=("plate",),
        check=lambda m: any(c.isdigit() for c in m.group("v")),
        case=False,
    ),
    _labelled(Identifier.VEHICLE, r"vin|vehicle|v\.i\.n\.?", "vin", "vehicle", "v.i.n"),
    _labelled(
        Identifier.DEVICE,
        r"serial|ser\.?|s/n|sn|lot|batch|udi|di|imei|device|pacemaker|icd\s+serial|implant|model|ref|catalog(?:ue)?|gtin|generator|lead\s+serial",
        "ser",
        "s/n",
        "sn",
        "lot",
        "batch",
        "udi",
        "di",
        "imei",
        "device",
        "pacemaker",
        "implant",
        "model",
        "ref",
        "catalog",
        "gtin",
        "generator",
        number=r"\s*(?:no\b\.?|num(?:ber)?s?\b|nbr\b|id\b|identifier|serial|#|№|:)(?:\s*(?:no\b\.?|number|#))?",
    ),
    Pattern(
        r"\(01\)\d{14}(?:\(\d{2,4}\)[\p{L}\d\-/.]{1,20}){0,6}",
        kind=Identifier.DEVICE,
        gate=("(01)",),
    ),
    _labelled(
        Identifier.CODE,
        r"accession|acc|case|site|specimen|sample|order|requisition|encounter|enc|visit|csn|har|study|subject|participant|trial|referral|prescription|rx|authorization|auth|pre-?auth(?:orization)?|confirmation|reference|tracking|ticket|barcode|employee|badge|student|report|document|docket|job|dictation|transcription|tissue|block|slide|donor|unos|bed|room|military|inmate|booking|file|image|exam",
        "acc",
        "case",
        "site",
        "specimen",
        "sample",
        "order",
        "requisition",
        "enc",
        "visit",
        "csn",
        "har",
        "study",
        "subject",
        "participant",
        "trial",
        "referral",
        "prescription",
        "rx",
        "auth",
        "confirmation",
        "reference",
        "tracking",
        "ticket",
        "barcode",
        "employee",
        "badge",
        "student",
        "report",
        "doc",
        "job",
        "dictation",
        "transcription",
        "tissue",
        "block",
        "slide",
        "donor",
        "unos",
        "bed",
        "room",
        "military",
        "inmate",
        "booking",
        "file",
        "image",
        "exam",
        number=r"\s*(?:no\b\.?|num(?:ber)?s?\b|nbr\b|id\b|identifier|code|#|№|:)(?:\s*(?:no\b\.?|number|#))?",
    ),
    _labelled(
        Identifier.CODE,
        r"id|identifier|i\.d\.",
        "id",
        "i.d",
        number=r"\s*(?:no\b\.?|number|#|:|=|is)",
    ),
)

# Nothing announces these: long runs of digits, and letters mixed with digits.
CATCH_ALL = (
    Pattern(
        r"(?<![\p{L}\d])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\p{L}\d])",
        LIKELY,
        case=False,
    ),
    Pattern(
        r"(?<![\p{L}\d.,\-/])\d{7,}(?![\p{L}\d]|[.,]\d)(?!\s*(?:units?|IU|cells|copies|mg|mcg|mL|ml|/))",
        LIKELY,
    ),
    Pattern(
        r"(?<![\p{L}\d.\-/])(?=[\p{Lu}\d\-/]{7,40}(?![\p{L}\d]))(?=[\p{Lu}\d\-/]*\p{Lu})(?=(?:[\p{Lu}\-/]*\d){4})[\p{Lu}\d]+(?:[-/][\p{Lu}\d]+)*",
        LIKELY,
    ),
    Pattern(
        r"(?<![\p{L}\d.\-/])\d{2,}(?:-\d{2,}){1,5}(?![\p{L}\d]|-\d)",
        LIKELY,
        check=lambda m: sum(c.isdigit() for c in m.group()) >= 8,
    ),
    Pattern(r"(?<![\p{L}\d])#\s?\d{5,}(?!\d)", LIKELY),
    Pattern(r"(?<![\p{L}\d.])\d(?:\.\d+){5,}(?![\d])", LIKELY),  # DICOM UIDs and other OIDs
)


def identifiers() -> PatternFamily:
    """Build the family of labelled numbers."""
    return PatternFamily(Identifier.CODE, PATTERNS, name="identifiers")


def catch_all() -> PatternFamily:
    """Build the family of numbers that are only long."""
    return PatternFamily(Identifier.CODE, CATCH_ALL, name="long-numbers")
