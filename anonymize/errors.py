"""What can go wrong while de-identifying. Messages name positions and ids, never contents.

AnonymizeError
├─ ProfileError            the profile, its name or the table schema is unknown or unusable
├─ KeyUnusable             the key file is missing, too short or not a key
├─ EngineUnavailable  *    the recognisers could not be started
├─ RecognizerFailed        a recogniser broke or ran out of time: the record is quarantined
├─ UnsupportedResource     a FHIR resource or element of a kind without rules
├─ RecordUnreadable        not text, not strict JSON, a ragged row, too long
└─ LeakDetected            an identifier was still there after treatment

* = transient: safe to repeat
"""

from __future__ import annotations


class AnonymizeError(Exception):
    """The root of this package's errors. `reason` is the stable code callers may store."""

    reason = "failed"
    transient = False


class ProfileError(AnonymizeError):
    """A profile, a treatment or a table schema that cannot be used."""

    reason = "profile"


class KeyUnusable(AnonymizeError):
    """The de-identification key cannot be read or is too weak to use."""

    reason = "key"


class EngineUnavailable(AnonymizeError):
    """The recognisers cannot be started; nothing was processed, so trying again is safe."""

    reason = "engine-unavailable"
    transient = True


class RecognizerFailed(AnonymizeError):
    """A recogniser failed or exceeded its time. Fail closed: its record must not pass."""

    reason = "recognizer-failed"

    def __init__(self, recognizer: str, *, timed_out: bool) -> None:
        """Name the recogniser; `timed_out` tells a slow pattern from a broken one."""
        what = "ran out of time" if timed_out else "failed"
        super().__init__(f"recogniser {recognizer} {what}")
        self.recognizer = recognizer
        self.timed_out = timed_out
        self.reason = "timed-out" if timed_out else "recognizer-failed"


class UnsupportedResource(AnonymizeError):
    """A FHIR resource type that has no rules; `position` says where it stood."""

    reason = "unsupported-resource"

    def __init__(self, type_name: str, position: str) -> None:
        """Name the type (letters only, at most 40) and the position in the record."""
        shown = type_name if type_name.isalpha() and len(type_name) <= 40 else "(not a type name)"
        super().__init__(f"no rules for resource type {shown} at {position}")
        self.type_name = shown
        self.position = position


class RecordUnreadable(AnonymizeError):
    """The record is not what it claims to be; `reason` is a stable code, `position` a place."""

    def __init__(self, reason: str, position: str, hint: str = "") -> None:
        """`hint` is the next step for a person and holds no contents."""
        super().__init__(f"{position}: {reason}" + (f" ({hint})" if hint else ""))
        self.reason = reason
        self.position = position


class LeakDetected(AnonymizeError):
    """A value of the patient's own record survived treatment; the record is held back."""

    reason = "leak"

    def __init__(self, position: str, count: int) -> None:
        """Tell how many values survived and where, never which."""
        super().__init__(f"{position}: {count} known identifier(s) left after treatment")
        self.position = position
        self.count = count
