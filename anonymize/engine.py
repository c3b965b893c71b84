"""Starting the recognisers, without a network and without torch.

This module itself is light: Presidio is imported when the first engine is started, so that a
process may call `block_torch` first, and so that importing `anonymize.deidentify` costs nothing.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from anonymize.errors import AnonymizeError, EngineUnavailable

if TYPE_CHECKING:
    from anonymize.analysis import Analysis

ENGINE_VERSION = "assent.deid/1"


def block_torch() -> bool:
    """Keep torch out of this process; True if it is kept out.

    spaCy, which Presidio brings, imports torch where it is installed, and nothing here uses it.
    Only for the main function of a process that does nothing but de-identify.
    """
    if sys.modules.get("torch") is not None:
        return False
    sys.modules["torch"] = None  # type: ignore[assignment]  # import torch now raises ImportError
    return True


@lru_cache(maxsize=4)
def load_engine(language: str = "en") -> Analysis:
    """Return the engine for `language`, started once per process.

    Raises:
        ProfileError: no recognisers for that language.
        EngineUnavailable: Presidio could not be started.
    """
    try:
        from anonymize.analysis import Analysis  # deferred: see the docstring

        return Analysis(language)
    except AnonymizeError:
        raise
    except Exception as error:
        raise EngineUnavailable(f"the recognisers did not start: {type(error).__name__}") from error
