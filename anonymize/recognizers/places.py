"""Streets, towns and ZIP codes (164.514(b)(2)(i)(B)), by USPS Publication 28's forms.

The state stays; a ZIP code is a span of its own, since its first three digits may stay.
"""

from __future__ import annotations

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.lexicon import CITIES, NOT_NAMES, STATE_CODES, STATES
from anonymize.recognizers.pattern import LIKELY, STRONG, Pattern, PatternFamily

_S = r"[^\S\n]"
_SUFFIX = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Drive|Dr|Lane|Ln|Boulevard|Blvd|Court|Ct|Circle|Cir|Place|Pl|"
    r"Terrace|Ter|Trail|Trl|Parkway|Pkwy|Highway|Hwy|Way|Square|Sq|Plaza|Plz|Alley|Aly|Loop|Pike|Row|"
    r"Crossing|Xing|Ridge|Heights|Hts|Gate|Landing|Lndg|Mews|Walk|Path|Run|Bypass|Expressway|Expy|"
    r"Freeway|Fwy|Turnpike|Tpke|Crescent|Cres|Close|Grove|Gardens|Commons|Common|Camp|Port|Forge|"
    r"Village|Course|Meadow|Meadows|Mission|Park|Passage|Point|Rapid|Skyway|Spur|Station|Track|"
    r"Trafficway|Tunnel|Union|Vale|Valley|View|Ville|Vista|Wall|Well|Wells|Burg|Center|Corner|Cove|Dale|"
    r"Estate|Estates|Extension|Ferry|Flat|Ford|Fork|Frontage|Glen|Green|Harbor|Haven|Hill|Hills|Inlet|"
    r"Island|Isle|Junction|Key|Knoll|Lake|Light|Lock|Lodge|Mall|Manor|Mill|Neck|Orchard|Overpass|"
    r"Parade|Promenade|Quay|Ramp|Ranch|Rest|River|Route|Shoal|Shore|Spring|Stream|Summit|Throughway|Trace)"
)
_UNIT = r"(?:(?:,?\s{0,2}|,\s?)(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Room|Rm|Bldg|Building|Lot|Trlr|#)\b\.?\s?#?\s?[\p{L}\d\-]{1,6})?"
_TOWN_WORD = r"\p{Lu}[\p{L}'.\-]*\p{L}"
TOWN = rf"(?:{_TOWN_WORD}(?:{_S}{_TOWN_WORD}){{0,3}})"


def _town(match: regex.Match[str]) -> bool:
    words = match.group("v").lower().split()
    return words[0] not in NOT_NAMES and words[-1] not in NOT_NAMES


def _street(match: regex.Match[str]) -> bool:
    return not regex.match(
        r"\s*(?:mg|mcg|ml|patients|days|weeks|hours)", match.string[match.end("v") :][:10]
    )


PATTERNS = (
    Pattern(
        rf"(?<![\p{{L}}\d]){CITIES}(?:{_S}(?i:clinic|office|campus|hospital|area|branch))?(?![\p{{L}}\d])",
        LIKELY,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d.,/\-])(?P<v>\d{{1,6}}(?:-\d{{1,4}})?[A-Z]?{_S}{{1,2}}(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?{_S})?"
        rf"(?:(?:\p{{Lu}}[\p{{L}}'.\-]*\d{{0,4}}|\d{{1,3}}(?:st|nd|rd|th|ST|ND|RD|TH)){_S}{{1,2}}){{1,4}}(?i:{_SUFFIX})\b\.?(?:{_S}(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\b\.?)?{_UNIT})",
        check=_street,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d.,/\-])(?P<v>\d{{1,6}}{_S}{{1,2}}(?:[\p{{L}}'.\-]+{_S}{{1,2}}){{1,3}}(?:street|avenue|ave|road|drive|lane|boulevard|blvd|terrace|parkway|pkwy|highway|hwy)\b\.?{_UNIT})",
        LIKELY,
        check=_street,
        case=False,
    ),
    Pattern(
        r"\bP\.?\s?O\.?\s?Box\s+\d{1,8}\b|\b(?:RR|HC|R\.R\.)\s?#?\d{1,3},?\s+Box\s+\d{1,6}\b",
        case=False,
    ),
    Pattern(
        rf"\b\d{{1,6}}{_S}+(?:US|State|County|Interstate|I|Highway|Hwy|Route|Rte|SR|CR)\b[-\s]?(?:(?:Highway|Hwy|Route|Rte|Road)\s)?\d{{1,4}}\b",
        LIKELY,
    ),
    Pattern(rf"\b(?:Apt|Apartment|Suite|Ste)\b\.?{_S}?#?{_S}?\d[\p{{L}}\d\-]{{0,5}}\b", LIKELY),
    Pattern(
        r"(?i:\b(?:home |mailing |street |residential |current |permanent )?address(?:es)?)\s*(?:is|was|:|=|-)\s*(?P<v>[\p{L}\d#][^\n;|]{5,80})",
        STRONG,
        check=lambda m: any(c.isdigit() for c in m.group("v")),
    ),
    # Towns: before a state, or where the sentence says that somebody lives there.
    Pattern(
        rf"(?<![\p{{L}}\d])(?P<v>{TOWN}),?{_S}{{1,2}}(?={STATE_CODES}{_S}{{0,2}},?{_S}?\d{{5}})",
        check=_town,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d])(?P<v>{TOWN}),{_S}(?={STATE_CODES}\b(?!\.))(?!(?:MD|PA|DO|MA|OR|ID|CO|ME|IN|MS|PR|DC|VI|MI|PT)\b)",
        LIKELY,
        check=_town,
    ),
    Pattern(rf"(?<![\p{{L}}\d])(?P<v>{TOWN}),{_S}(?={STATES}\b)", check=_town),
    Pattern(
        rf"(?i:\b(?:lives?|living|lived|resid(?:es|ing|ed)|resident|native|moved|relocated|travel(?:l?ed|s|ing)?|trip|visiting|vacation(?:ing)?|born|raised|grew up|immigrated|emigrated|came|hails|originally|homeless|house|home)\s+(?:to|in|of|from|near|outside|at)(?:\s+the)?(?:\s+(?:city|town|village|county|state)\s+of)?){_S}+(?P<v>{TOWN}(?:{_S}(?:County|City|Township|Heights|Village))?)",
        LIKELY,
        check=_town,
    ),
    Pattern(rf"\b(?P<v>{TOWN}{_S}(?:County|Township|Parish|Borough))\b", LIKELY, check=_town),
    Pattern(
        rf"(?i:\b(?:city|town|county|village|municipality|birth ?place|place of birth|home ?town)\s*[:=]\s*)(?P<v>{TOWN})",
        check=_town,
    ),
    Pattern(rf"(?i:\b(?:city|town|county) of\s+)(?P<v>{TOWN})", LIKELY, check=_town),
    Pattern(
        rf"(?:{STATE_CODES}|{STATES})\.?,?\s{{1,3}}(?P<v>\d{{5}}(?:-?\d{{4}})?)(?!\d)",
        kind=Identifier.ZIP,
        near=r"\d{5}",
    ),
    Pattern(
        r"\b(?:zip|postal)(?:\s*code)?\b[^\n\d]{0,6}(?P<v>\d{5}(?:-\d{4})?)(?!\d)",
        kind=Identifier.ZIP,
        gate=("zip", "postal"),
        case=False,
    ),
    Pattern(r"(?<![\d\-.,])\d{5}-\d{4}(?![\d\-])", kind=Identifier.ZIP),
    Pattern(
        r"(?i:\b(?:postcode|postal code)\b[^\n\p{L}\d]{0,4})(?P<v>[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d)\b",
        gate=("post",),
    ),
    Pattern(
        r"\b(?:latitude|longitude|lat|lon|lng|gps)\b[^\n\d\-]{0,6}(?P<v>-?\d{1,3}\.\d{3,})",
        gate=("lat", "lon", "lng", "gps"),
        case=False,
    ),
)


def places() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.LOCATION, PATTERNS, name="places")
