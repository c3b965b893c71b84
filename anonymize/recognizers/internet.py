"""E-mail addresses (RFC 5322, and as people spell them out), URLs (RFC 3986), IP and MAC addresses.

164.514(b)(2)(i)(F), (N), (O). No list of public suffixes is consulted, hence nothing is fetched.
"""

from __future__ import annotations

import ipaddress

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.pattern import LIKELY, Pattern, PatternFamily

_TLD = (
    r"(?:com|org|net|edu|gov|mil|int|info|biz|name|io|co|ai|app|dev|health|care|clinic|hospital|"
    r"doctor|med|us|uk|ca|au|de|fr|es|it|nl|ie|in|nz|ch|at|be|se|no|dk|fi|pl|br|mx|cn|jp|eu)"
)


def _address(match: regex.Match[str]) -> bool:
    try:
        ipaddress.ip_address(match.group("v").partition("/")[0].strip("[]"))
    except ValueError:
        return False
    return True


PATTERNS = (
    Pattern(
        r"(?<![\p{L}\d])[\p{L}\d._%+'\-]{1,64}\s?(?:@|\(at\)|\[at\])\s?[\p{L}\d\-]{1,63}(?:(?:\.|\s?(?:\(dot\)|\[dot\])\s?)[\p{L}\d\-]{1,63}){1,4}",
        kind=Identifier.EMAIL,
        gate=("@", "(at)", "[at]"),
        case=False,
    ),
    Pattern(
        r"(?<![\p{L}\d])[\p{L}\d._\-]{1,64}(?:\s+dot\s+[\p{L}\d_\-]{1,32}){0,3}\s+at\s+[\p{L}\d\-]{2,63}\s+dot\s+"
        + _TLD
        + r"\b",
        kind=Identifier.EMAIL,
        gate=(" dot ",),
        case=False,
    ),
    Pattern(r"(?<![\p{L}\d])@[\p{L}\d_.]{3,30}", LIKELY, kind=Identifier.URL, gate=("@",)),
    Pattern(
        r"\b(?:https?|ftp|sftp|file|ldap|hxxps?)://[^\s<>\"']{2,2000}", gate=("://",), case=False
    ),
    Pattern(r"\bwww\.[^\s<>\"']{3,500}", gate=("www.",), case=False),
    Pattern(
        r"(?<![\p{L}\d@.\-])[\p{L}\d](?:[\p{L}\d\-]{0,61}[\p{L}\d])?(?:\.[\p{L}\d\-]{2,63}){0,3}\.(?:com|org|net|edu|gov|mil|info|io|health)\b(?:[/:?#][^\s<>\"']*)?",
        near=r"(?i:\.(?:com|org|net|edu|gov|mil|info|io|health)\b)",
        case=False,
    ),
    Pattern(
        r"(?<![\d.])(?P<v>(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?)(?![\d.]\d)",
        kind=Identifier.IP,
        check=_address,
    ),
    Pattern(
        r"(?<![\p{L}\d:])(?P<v>(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})(?![\p{L}\d:])",
        kind=Identifier.IP,
        gate=("::", ":"),
        check=lambda m: len(m.group("v")) > 5 and _address(m),
        case=False,
    ),
    Pattern(
        r"(?<![\p{L}\d:])(?:[0-9a-f]{2}[:\-]){5}[0-9a-f]{2}(?![\p{L}\d:])",
        kind=Identifier.DEVICE,
        near=r"[:\-][0-9a-fA-F]{2}[:\-][0-9a-fA-F]{2}[:\-]",
        case=False,
    ),
)


def internet() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.URL, PATTERNS, name="internet")
