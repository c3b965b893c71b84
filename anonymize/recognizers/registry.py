"""The families in charge, in a fixed order."""

from __future__ import annotations

from anonymize.errors import ProfileError
from anonymize.recognizers.ages import ages
from anonymize.recognizers.dates import dates
from anonymize.recognizers.facilities import facilities
from anonymize.recognizers.identifiers import catch_all, identifiers
from anonymize.recognizers.internet import internet
from anonymize.recognizers.names import names
from anonymize.recognizers.pattern import PatternFamily
from anonymize.recognizers.phones import phones
from anonymize.recognizers.places import places


def families(language: str) -> list[PatternFamily]:
    """Build every family for `language`.

    Raises:
        ProfileError: there are no recognisers for that language.
    """
    if language != "en":
        raise ProfileError("there are recognisers for English (en) only")
    return [
        identifiers(),
        phones(),
        internet(),
        dates(),
        ages(),
        places(),
        facilities(),
        names(),
        catch_all(),
    ]
