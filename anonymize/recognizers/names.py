"""Names of people where the text itself says that a name stands (164.514(b)(2)(i)(A)).

Titles, labels, credentials, signatures, relatives, "Smith, John" header lines, "X is a 45-year-old",
common given names. The patient's own name, wherever it stands, is `known`'s.
"""

from __future__ import annotations

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.lexicon import GIVEN_NAMES, NOT_NAMES
from anonymize.recognizers.pattern import LIKELY, STRONG, Pattern, PatternFamily

_S = r"[^\S\n]"  # white space within a line
WORD = r"\p{Lu}[\p{L}\p{M}'\-]*[\p{L}\p{M}]\d{0,4}"
_INITIAL = r"\p{Lu}\.?(?![\p{L}])"
_PARTICLE = r"(?:de|da|do|dos|del|della|der|den|di|du|la|le|van|von|bin|ibn|al|el|ter|ten|y|e|st\.?|mc|mac|o')"
_PART = rf"(?:{WORD}|{_INITIAL}|{_PARTICLE}{_S}(?:{_PARTICLE}{_S})?{WORD})"
FULL = rf"(?:{_PART}(?:{_S}{{1,2}}{_PART}){{0,3}}(?:,?{_S}(?:Jr|Sr|II|III|IV)\b\.?)?)"
_COMMA = rf"(?:{_PART}(?:{_S}{_PART})?{_S}?,{_S}?{_PART}(?:{_S}{_PART}){{0,2}})"
_ANY = rf"(?:{_COMMA}|{FULL})"
_LOWER = rf"(?:\p{{L}}[\p{{L}}'\-]+(?:,?{_S}\p{{L}}[\p{{L}}'\-]*\.?){{0,3}})"
_CREDENTIAL = (
    r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|B\.?S\.?N\.?|N\.?P\.?|P\.?A\.?(?:-C)?|Ph\.?\s?D\.?|D\.?D\.?S\.?|D\.?M\.?D\.?|"
    r"D\.?P\.?M\.?|L\.?P\.?N\.?|CRNA|FNP(?:-[BC]C?)?|APRN|ARNP|CNP|CNM|DNP|MSN|MSW|LCSW|LMSW|LPC|"
    r"Pharm\.?D\.?|RPh|DPT|PT|OTR/?L?|OT|SLP|CCC-SLP|RD|RT|CNA|MA|EMT(?:-P)?|MBBS|MBChB|F\.?A\.?C\.?[SCP]\.?|"
    r"FRCS|MPH|PsyD|Au\.?D\.?|O\.?D\.?|D\.?C\.?|D\.?V\.?M\.?|Esq\.?)"
)
_TITLE = (
    r"(?:Mr|Mrs|Ms|Miss|Mx|Messrs|Dr|Drs|Doctor|Prof|Professor|Rev|Reverend|Fr|Father|Sister|Sr|Rabbi|"
    r"Imam|Pastor|Judge|Hon|Nurse|Sgt|Sergeant|Lt|Capt|Captain|Maj|Major|Col|Officer|Detective|"
    r"Senator|Coach|Sir|Lady|Dame|Lord|Madam|Señora?|Sra|Srta|Don|Doña|Herr|Frau|Mme|Mlle)"
)
_PEOPLE = (
    r"(?:wife|husband|spouse|partner|son|daughter|child|mother|father|mom|mum|dad|parents?|"
    r"brother|sister|sibling|aunt|uncle|niece|nephew|cousin|grandson|granddaughter|grandmother|"
    r"grandfather|grandma|grandpa|stepson|stepdaughter|stepmother|stepfather|"
    r"(?:mother|father|son|daughter|brother|sister)-in-law|fiancée?|girlfriend|boyfriend|friend|"
    r"neighbou?r|roommate|caregiver|caretaker|guardian|twin|ex-wife|ex-husband)"
)
_LABEL = (
    r"(?:patient(?:'s)?(?:\s+name)?|pt(?:\s+name)?|name(?:\s+of\s+patient)?|client|resident(?:\s+name)?|"
    r"mother|father|guardian|next\s+of\s+kin|nok|emergency\s+contact|contact(?:\s+person)?|spouse|"
    r"husband|wife|son|daughter|parents?|caregiver|attending|physician|provider|clinician|"
    r"surgeon|assistants?|anesthesiologist|anesthetist|pcp|primary\s+care(?:\s+(?:physician|provider))?|"
    r"(?:referring|attending|ordering|admitting|consulting|discharging|primary|supervising|rendering)"
    r"\s+(?:physician|provider|doctor|md|surgeon)|referred\s+by|dictated\s+by|dictating|transcribed\s+by|"
    r"(?:electronically\s+|digitally\s+)?(?:signed|authenticated|verified|approved|reviewed|completed|"
    r"entered|performed|ordered|prepared|written|recorded|witnessed|seen|interpreted|read|reported|"
    r"documented|authored)\s+by|e-?signed(?:\s+by)?|author|cc|scribe|scribed\s+by|resident\s+physician|"
    r"fellow|intern|nurse|rn|radiologist|pathologist|cardiologist|dentist|therapist|social\s+worker|"
    r"case\s+manager|interpreter|witness|informant|accompanied\s+by|subscriber|insured|"
    r"policy\s?holder|guarantor|account\s+holder|beneficiary|employer\s+contact|attention|attn|to|from|re|"
    r"regarding|donor|recipient|baby|maiden\s+name|aka|alias|preferred\s+name|nickname)"
)
_NAME_LABEL = (
    r"(?:(?:patient|pt|full|legal|last|first|middle|family|given|maiden|preferred|mother's|father's|"
    r"guardian|contact|subscriber|member|insured)'?s?\s+name|surname|forename)"
)
_BREAKS = regex.compile(r"[\s,.'\-]+")


def _words(text: str) -> list[str]:
    return [w for w in _BREAKS.split(text.lower()) if w]


def _is_name(match: regex.Match[str]) -> bool:
    words = _words(match.group("v"))
    return bool(words) and words[0] not in NOT_NAMES and any(w not in NOT_NAMES for w in words)


def _all_name(match: regex.Match[str]) -> bool:
    words = _words(match.group("v"))
    return bool(words) and not any(w in NOT_NAMES for w in words)


def _given(match: regex.Match[str]) -> bool:
    words = _words(match.group("v"))
    return words[0].rstrip("0123456789") in GIVEN_NAMES and (
        len(words[-1]) == 1 or words[-1] not in NOT_NAMES
    )


def _stop(pattern: str) -> str:
    """Let a name run over its words but not over the next label on the line."""
    return rf"(?P<v>{pattern})(?!{_S}?[\p{{L}}\d]*:)"


PATTERNS = (
    Pattern(
        rf"(?<![\p{{L}}\d])(?:{_TITLE}|{_TITLE.upper()})\b\.?{_S}{{1,2}}(?:(?:and|&){_S}{_TITLE}\b\.?{_S})?(?P<v>{FULL})",
        check=_is_name,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d])(?:mr|mrs|ms|dr|prof)\.?{_S}(?P<v>[\p{{L}}][\p{{L}}'\-]{{2,}})",
        LIKELY,
        check=_all_name,
        case=False,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d])(?i:{_LABEL}){_S}{{0,3}}(?:\([^()\n]{{0,30}}\){_S}{{0,2}})?[:=#]{_S}*(?:{_TITLE}\b\.?{_S}*)?{_stop(_ANY)}",
        near=r"[:=#]",
        check=_is_name,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d])(?:{_NAME_LABEL}|name){_S}*(?:is|:|=|-){_S}*(?P<v>{_LOWER})(?={_S}*(?:$|[;|,.()]|\d|[\p{{L}}/]+{_S}?:|{_S}{{2}}))",
        near=r"(?i:\bname|sur ?name|forename)",
        check=_is_name,
        case=False,
    ),
    Pattern(
        rf"(?i:\b(?:electronically|digitally)?\s*(?:signed|dictated|transcribed|authenticated|reviewed|verified|cosigned|co-signed|seen|evaluated|examined|referred|followed|performed|ordered|assisted|supervised)\s+(?:by|with)\b){_S}*:?{_S}*(?:{_TITLE}\b\.?{_S}*)?(?P<v>{_ANY})",
        near=r"(?i:[^\S\n]by\b|ed with\b)",
        check=_is_name,
    ),
    Pattern(rf"/s/{_S}*(?P<v>{_ANY})", check=_is_name, gate=("/s/",)),
    Pattern(
        rf"(?i:\b(?:sincerely|regards|respectfully|thank you|yours truly|cordially)\b)[ ,]*\n\s*(?:{_TITLE}\b\.?{_S}*)?(?P<v>{FULL})",
        check=_is_name,
        gate=("sincerely", "regards", "respectfully", "thank you", "yours", "cordially"),
    ),
    Pattern(
        rf"(?P<v>{WORD}(?:{_S}{_PART}){{0,3}}),?{_S}{{1,2}}(?:{_CREDENTIAL})(?![\p{{L}}\d])(?!{_S}?,?{_S}?\d{{5}})",
        LIKELY,
        check=_all_name,
    ),
    Pattern(
        rf"(?P<v>{WORD}(?:{_S}{_PART}){{0,3}}),?{_S}(?:M\.D\.|D\.O\.|R\.N\.|Ph\.D\.|MD|RN|DO|NP|PA-C)(?![\p{{L}}\d])(?!{_S}?,?{_S}?\d{{5}})",
        STRONG,
        check=_all_name,
    ),
    Pattern(
        rf"^{_S}*(?P<v>\p{{L}}[\p{{L}}'\-]+(?:{_S}\p{{L}}[\p{{L}}'\-]+)?,{_S}?\p{{L}}[\p{{L}}'\-]+(?:{_S}\p{{Lu}}\.?)?)(?={_S}*(?:\(|\||(?i:mrn|dob|age|sex|#|acct)|\d))",
        LIKELY,
        check=lambda m: _all_name(m) and m.group("v")[0].isupper(),
    ),
    Pattern(
        rf"^{_S}*(?P<v>\p{{Lu}}{{2,}}(?:[-']\p{{Lu}}+)?,{_S}\p{{Lu}}[\p{{L}}'\-]+(?:{_S}\p{{Lu}}\.?)?){_S}*$",
        LIKELY,
        check=_all_name,
    ),
    Pattern(
        rf"(?<![\p{{L}}\-])(?i:{_PEOPLE})(?:,?{_S}+(?:is{_S}+)?(?:named|called){_S}+|,?{_S}+|{_S}*\({_S}*)(?P<v>{FULL})",
        LIKELY,
        check=_is_name,
    ),
    Pattern(
        rf"(?i:\b(?:named|nicknamed|goes by|known as|a\.?k\.?a\.?|name is|name was|called|addressed as|i am|this is|spoke (?:with|to)|discussed with|met with|contacted|accompanied by|lives with|cared for by|paged|notified|informed|per|with)\b){_S}+(?:{_TITLE}\b\.?{_S}+)(?P<v>{FULL})",
        check=_is_name,
    ),
    Pattern(
        rf"(?i:\b(?:named|nicknamed|goes by|known as|a\.?k\.?a\.?|name is|name was)\b){_S}+[\"']?(?P<v>{FULL})",
        LIKELY,
        check=_is_name,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d\-])(?P<v>{FULL}),?\s+(?:(?:is|was)\s+)?(?:an?\s+|the\s+)?(?:\p{{Ll}}+\s+){{0,2}}\d{{1,3}}[- ]?(?:y|yr|year|month|mo|week|day)s?[- /]?(?:o\b|old)",
        LIKELY,
        check=_all_name,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d\-])(?P<v>{WORD}{_S}\p{{Lu}}\.)(?=,?{_S}(?:who|whose|with|is|was|has|had|presents|presented|at|from|on|seen|admitted|diagnosed)\b|[,?])",
        LIKELY,
        check=_given,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d\-])(?P<v>{WORD}(?:{_S}{_INITIAL})?{_S}{_PART}(?:{_S}{_PART})?)",
        LIKELY,
        check=_given,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d\-])(?P<v>\p{{Lu}}\p{{Ll}}{{2,}})(?='s\b|,?{_S}(?:is|was|has|had|reports?|states?|denies|presents|presented|complains|complained|underwent|came|takes|lives|tolerated|[Ss]he|[Hh]e)\b)",
        LIKELY,
        check=_given,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d])(?P<v>\p{{Lu}}\p{{Ll}}{{2,}})(?=,?{_S}(?:who|whose)\b|\?)",
        LIKELY,
        check=_given,
    ),
    Pattern(
        rf"(?i:\b(?:hi|hello|dear|thanks|hey|good (?:morning|afternoon|evening))\b){_S}*,?{_S}+(?P<v>{FULL})",
        LIKELY,
        check=_is_name,
        gate=("hi", "hello", "dear", "thanks", "hey", "good"),
    ),
)


def names() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.NAME, PATTERNS, name="names")
