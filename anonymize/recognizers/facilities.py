"""Hospitals, clinics, schools, employers and other institutions by the nouns in their names."""

from __future__ import annotations

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.pattern import LIKELY, Pattern, PatternFamily

_S = r"[^\S\n]"
_WORD = r"(?:\p{Lu}[\p{L}'.\-]*[\p{L}.]|&|of|and|the|for|at)"
_NOUN = (
    r"(?:Hospitals?|Hosp|Medical{S}(?:Cent(?:er|re)|Group|Associates|Clinic|College|Plaza|Arts)|Med{S}(?:Ctr|Center)|"
    r"Health(?:{S}?care)?{S}(?:System|Cent(?:er|re)|Network|Clinic|Services|Partners|Group|Plan)|Healthcare|"
    r"Regional{S}Health|Clinics?|Infirmary|Sanatorium|Hospice|Nursing{S}(?:Home|Center|Facility)|"
    r"(?:Assisted|Senior|Independent){S}Living|Rehab(?:ilitation)?(?:{S}(?:Cent(?:er|re)|Hospital|Institute))?|"
    r"Surgery{S}Cent(?:er|re)|Cancer{S}(?:Cent(?:er|re)|Institute)|Heart{S}(?:Cent(?:er|re)|Institute)|"
    r"Dialysis(?:{S}Cent(?:er|re))?|Urgent{S}Care|Family{S}(?:Practice|Medicine)|Pediatrics|Physicians{S}Group|"
    r"Pharmacy|Laborator(?:y|ies)|Institute|University|College|School|Academy|Elementary|Kindergarten|"
    r"Church|Temple|Mosque|Synagogue|Shelter|Correctional{S}(?:Facility|Institution)|Prison|Jail|"
    r"Manor|Inc|LLC|L\.L\.C|Corp(?:oration)?|Company|Ltd)"
).replace("{S}", _S)
_GENERIC = frozenset(
    """
    the a an this that our their his her local outside general outpatient inpatient emergency primary
    care urgent family cardiology neurology oncology orthopedic orthopedics pediatric pediatrics
    psychiatry psychiatric dermatology urology gynecology surgery surgical medical medicine internal
    eye dental pain diabetes wound sleep allergy anticoagulation specialty referring transferring
    admitting community day rehab rehabilitation physical therapy nursing skilled mental behavioral
    health public high middle elementary medicine law graduate nurse preadmission follow-up walk-in
    at of for and to in from hospital clinic center discharge admission acute chronic patient patients
    dialysis home high preferred retail specialty no currently some current past previous course
    """.split()
)


def _named(match: regex.Match[str]) -> bool:
    words = [w for w in match.group("v").lower().split() if w.strip("&.,'")]
    own = [w for w in words[:-1] if w not in _GENERIC]
    return bool(own)


PATTERNS = (
    Pattern(
        r"(?<![\p{L}\d])(?:UCSF|UCLA|UCSD|NYU|MGH|BWH|BIDMC|UPMC|UNC|OHSU|UAB|UIC|USC|UW|Mayo|Johns Hopkins|Hopkins|"
        r"Cedars[- ]Sinai|Mount Sinai|Kaiser(?: Permanente)?|Stanford|Massachusetts General|Mass General|"
        r"Brigham(?: and Women's)?|Beth Israel|Cleveland Clinic|MD Anderson|Sloan[- ]Kettering|"
        r"Baylor(?: Scott)?|Intermountain|Geisinger|Sutter|Providence|Dana[- ]Farber)(?:['\s&.\-]{1,3}\p{Lu}[\p{L}.']+){0,4}(?![\p{L}\d])",
        LIKELY,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d])(?P<v>\p{{Lu}}[\p{{L}}'.\-]*[\p{{L}}.](?:{_S}{_WORD}){{0,5}}{_S}(?:{_NOUN}|{_NOUN.upper()})(?:{_S}(?:of|at){_S}\p{{Lu}}[\p{{L}}'\-]+(?:{_S}\p{{Lu}}[\p{{L}}'\-]+)?)?)(?![\p{{L}}\d])",
        LIKELY,
        check=_named,
    ),
    Pattern(
        rf"(?<![\p{{L}}])(?P<v>(?:University|College|Hospital|Institute|Church){_S}(?:of|for){_S}(?:the{_S})?\p{{Lu}}[\p{{L}}'\-]+(?:{_S}(?:at{_S}|of{_S})?\p{{Lu}}[\p{{L}}'\-]+){{0,3}})",
        LIKELY,
    ),
    Pattern(
        rf"(?<![\p{{L}}])(?P<v>(?:St\.?|Saint|Mount|Mt\.?|Holy|Our{_S}Lady){_S}\p{{Lu}}\p{{L}}+(?:'s)?(?:{_S}\p{{Lu}}\p{{L}}+){{0,2}})",
        LIKELY,
    ),
    Pattern(
        rf"(?i:\b(?:facility|hospital|clinic|employer|school|location|site|institution|pharmacy|laboratory|lab|organi[sz]ation|department of)(?:{_S}name)?{_S}*[:=]{_S}*)(?P<v>\p{{Lu}}[\p{{L}}'.\-]+(?:{_S}{_WORD}){{0,5}})",
        LIKELY,
        check=lambda m: m.group("v").lower().split()[0] not in _GENERIC,
    ),
    Pattern(
        rf"(?i:\b(?:works?|worked|working|employed|job|employee)\s+(?:at|for|by|with|of)\s+(?:the\s+)?)(?P<v>\p{{Lu}}[\p{{L}}'.\-]+(?:{_S}\p{{Lu}}[\p{{L}}'.\-]+){{0,3}})",
        LIKELY,
    ),
    Pattern(
        rf"(?i:\b(?:seen|treated|admitted|transferred|hospitali[sz]ed|followed|evaluated|referred|check-?up|appointment|surgery|procedure|care|visit)\b[^.\n]{{0,20}}?\s(?:at|to|from)\s+(?:the\s+)?)(?P<v>\p{{Lu}}[\p{{Ll}}'\-]+(?:{_S}\p{{Lu}}[\p{{L}}'\-]+){{1,3}})",
        LIKELY,
    ),
)


def facilities() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.FACILITY, PATTERNS, name="facilities")
