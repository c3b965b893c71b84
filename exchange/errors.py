"""Every way in which the exchange cannot do what it was asked.

A refusal of access is a value (a denial), never an error. An error means that the question could
not be answered or the request could not be taken. Messages name ids, counts and the next step,
never contents: no name, note, key or code.

::

    ExchangeError
    ├─ NotAuthenticated            nobody is at the door, or not who they say
    ├─ NotEntitled                 this role may not; shown exactly like NotFound
    ├─ NotFound
    │  └─ InvitationUnknown        no open invitation belongs to this code
    ├─ Malformed                   the request has not the required form; carries a pointer
    │  ├─ BodyMalformed            not strict JSON; carries the offset
    │  ├─ IdempotencyKeyMissing
    │  └─ IdempotencyKeyMalformed
    ├─ BodyTooLarge                carries the limit in bytes
    ├─ LengthRequired              the body's length must be told beforehand
    ├─ UnsupportedMediaType
    ├─ RateLimited                 carries the seconds to wait
    ├─ Conflict                    the thing is not in the state that the request needs
    │  ├─ AlreadyExists
    │  ├─ InvitationUsed           a code is redeemed once
    │  ├─ ConsentKeyUsed           a consent key serves one consent
    │  ├─ VersionNotReady          a dataset version is not in the state that this step needs
    │  └─ IdempotencyInFlight      the first request with this key is still running
    ├─ Unprocessable               well formed, but it cannot be honoured; carries a pointer
    │  ├─ ConsentRefused           terms, document and signatures do not hold together
    │  │  ├─ SubjectMismatch       the consent speaks for somebody else
    │  │  ├─ NoticeUnknown         the terms name a notice that this deployment never showed
    │  │  ├─ TermsMismatch         the terms do not say what the document says
    │  │  ├─ SignatureRefused      a signature is malleated, or of another key or deployment
    │  │  ├─ ConsentKeyMismatch    the grant is not signed by the key that the terms name
    │  │  ├─ DeadlineExpired       signBy has passed
    │  │  ├─ DeadlineTooFar        signBy lies more than a day ahead
    │  │  ├─ PeriodInvalid         the consent ended before it was given, or begins absurdly late
    │  │  ├─ UntilDayWrong         untilDay is not the last day of the end's month
    │  │  ├─ WithdrawMissing       a permit without its withdrawal, or an objection's lifting
    │  │  ├─ WithdrawUnexpected    an objection's withdrawal stays with the patient
    │  │  ├─ LiftMissing           an objection is lifted only by the identity key
    │  │  └─ SupersedesInvalid     what is superseded is no permit in force of this subject
    │  ├─ InvitationRefused        an invitation does not hold together
    │  ├─ RequestRefused           a signed request, manifest or job does not hold together
    │  ├─ DocumentMalformed        a field of a signed document is wrong, missing or unknown
    │  ├─ ContentMismatch          bytes are not those that the manifest commits to
    │  └─ IdempotencyMismatch      the key was used with another payload
    ├─ Expired                     a challenge, invitation or signature came too late
    ├─ SealError
    │  ├─ EnvelopeCorrupt
    │  ├─ EnvelopeVersionUnknown
    │  └─ KeyShredded
    ├─ VaultError
    │  ├─ BlobMissing
    │  └─ VaultUnavailable      *
    ├─ KeysError                   the keys process
    │  ├─ KeysRefused              it verified by itself, and says no; carries the reasons
    │  └─ KeysUnavailable       *
    ├─ StoreError
    │  ├─ StoreReadOnly
    │  ├─ SchemaUnknown            the database was made by another version
    │  └─ StoreUnavailable      *  nothing was stored and nothing acknowledged
    ├─ ChainBehind              *  the followed chain is older than the question needs
    ├─ JobError
    │  ├─ JobFailed                ended without a result; carries a stable reason
    │  ├─ JobCancelled
    │  └─ SandboxLost           *  the child ended without an answer
    └─ SettingsError               names the variable and the next step

    * = Transient: safe to repeat
"""

from __future__ import annotations


class ExchangeError(Exception):
    """Root of everything that this package raises on purpose.

    ``next_step`` tells the caller what to do; it may be empty.
    """

    def __init__(self, message: str = "", *, next_step: str = "") -> None:
        super().__init__(message or type(self).__name__)
        self.next_step = next_step


class Transient:
    """Marks errors after which the same call may be repeated safely."""


class NotAuthenticated(ExchangeError):
    """Nobody is at the door, or not who they say they are."""


class NotEntitled(ExchangeError):
    """This role may not. Callers cannot tell it from :class:`NotFound`."""


class NotFound(ExchangeError):
    """No such thing, as far as this caller may know."""


class InvitationUnknown(NotFound):
    """No open invitation belongs to this subject and code."""


class _AtPointer(ExchangeError):
    """An error about one place of the body; ``pointer`` is a JSON pointer (RFC 6901)."""

    def __init__(self, message: str = "", *, pointer: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.pointer = pointer


class Malformed(_AtPointer):
    """The request has not the required form. ``pointer`` names the place (RFC 6901)."""


class BodyMalformed(Malformed):
    """The body is not strict JSON. ``offset`` counts characters from the body's start."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(
            f"the body {what} (at character {offset})",
            next_step="send UTF-8 JSON (RFC 8259) with every key once and at most 64 levels",
        )
        self.offset = offset


class IdempotencyKeyMissing(Malformed):
    """A request that creates something came without an ``Idempotency-Key``."""


class IdempotencyKeyMalformed(Malformed):
    """The ``Idempotency-Key`` is not 1 to 255 visible ASCII characters."""


class BodyTooLarge(ExchangeError):
    """The body is larger than ``limit`` bytes."""

    def __init__(self, limit: int, *, next_step: str = "") -> None:
        super().__init__(f"the body is larger than {limit} bytes", next_step=next_step)
        self.limit = limit


class LengthRequired(ExchangeError):
    """The body's length must be told beforehand."""


class UnsupportedMediaType(ExchangeError):
    """The body is of a kind that this door does not take."""


class RateLimited(ExchangeError):
    """Too many requests; try again after ``retry_after_seconds``."""

    def __init__(self, retry_after_seconds: int, *, next_step: str = "") -> None:
        super().__init__(
            f"too many requests; wait {retry_after_seconds} s",
            next_step=next_step or f"repeat after {retry_after_seconds} seconds",
        )
        self.retry_after_seconds = retry_after_seconds


class Conflict(ExchangeError):
    """The thing is not in the state that the request needs."""


class AlreadyExists(Conflict):
    """Another row already has this unique value."""


class InvitationUsed(Conflict):
    """The code was redeemed before; the first redemption wins."""


class ConsentKeyUsed(Conflict):
    """A consent key serves one consent; another one came with the same key."""


class VersionNotReady(Conflict):
    """A dataset version is not in the state that this step needs."""


class IdempotencyInFlight(Conflict):
    """The first request with this key is still running."""


class Unprocessable(_AtPointer):
    """Well formed, but it cannot be honoured. ``pointer`` names the place (RFC 6901)."""


class ConsentRefused(Unprocessable):
    """Terms, document and signatures do not hold together."""


class SubjectMismatch(ConsentRefused):
    """The consent speaks for another subject than the one at the door."""


class NoticeUnknown(ConsentRefused):
    """The terms name a notice that this deployment never showed."""


class TermsMismatch(ConsentRefused):
    """The terms do not say what the document says, member by member."""


class SignatureRefused(ConsentRefused):
    """A signature is malleated, or by another key, or made for another deployment."""


class ConsentKeyMismatch(ConsentRefused):
    """The grant is not signed by the consent key that the terms name."""


class DeadlineExpired(ConsentRefused):
    """The terms had to be handed in earlier (``signBy``)."""


class DeadlineTooFar(ConsentRefused):
    """``signBy`` lies more than a day ahead."""


class PeriodInvalid(ConsentRefused):
    """The consent ended before it was given, or begins absurdly late."""


class UntilDayWrong(ConsentRefused):
    """``untilDay`` is not the last day of the month in which the consent ends."""


class WithdrawMissing(ConsentRefused):
    """The consent key's signed withdrawal is needed here."""


class WithdrawUnexpected(ConsentRefused):
    """The withdrawal of an objection stays with the patient."""


class LiftMissing(ConsentRefused):
    """An objection is lifted only by the identity key."""


class SupersedesInvalid(ConsentRefused):
    """What is superseded is no permit in force of this subject."""


class InvitationRefused(Unprocessable):
    """An invitation names another hospital's subject, or its code or term cannot be taken."""


class RequestRefused(Unprocessable):
    """A signed request, manifest, model card or job does not hold together."""


class DocumentMalformed(Unprocessable):
    """A field of a signed document is wrong, missing or unknown; ``what`` says how."""

    def __init__(self, pointer: str, what: str) -> None:
        super().__init__(
            f"{pointer or 'the document'} {what}",
            pointer=pointer,
            next_step="correct the field, sign the document again, and repeat",
        )
        self.what = what


class ContentMismatch(Unprocessable):
    """The bytes are not those that the signed manifest commits to."""


class IdempotencyMismatch(Unprocessable):
    """The key was used before with another payload."""


class Expired(ExchangeError):
    """A challenge, an invitation or a signature came too late."""


class SealError(ExchangeError):
    """A sealed thing cannot be opened or made."""


class EnvelopeCorrupt(SealError):
    """Sealed bytes are cut, changed, or bound to something else."""


class EnvelopeVersionUnknown(SealError):
    """Sealed bytes of a version that this code does not know; unknown means no."""


class KeyShredded(SealError):
    """The key was destroyed; the bytes cannot be read any more, by design."""


class VaultError(ExchangeError):
    """The place of the sealed bytes cannot do what it was asked."""


class BlobMissing(VaultError):
    """The vault holds nothing under this path."""


class VaultUnavailable(Transient, VaultError):
    """The vault does not answer or cannot write."""


class KeysError(ExchangeError):
    """The keys process did not do what it was asked."""


class KeysRefused(KeysError):
    """The keys process verified by itself and says no; ``reasons`` are stable words."""

    def __init__(self, reasons: tuple[str, ...] = (), *, next_step: str = "") -> None:
        super().__init__("keys refused: " + ", ".join(reasons), next_step=next_step)
        self.reasons = reasons


class KeysUnavailable(Transient, KeysError):
    """The keys process does not answer."""


class StoreError(ExchangeError):
    """The database cannot do what it was asked."""


class StoreReadOnly(StoreError):
    """This process opened the store for reading only."""


class SchemaUnknown(StoreError):
    """The database was made by another version of the exchange."""


class StoreUnavailable(Transient, StoreError):
    """The database or its disk failed. Nothing was stored, nothing may be acknowledged."""


class ChainBehind(Transient, ExchangeError):
    """The followed chain is older than the question needs."""


class JobError(ExchangeError):
    """A job ended without a result."""


class JobFailed(JobError):
    """A job ended without a result; ``reason`` is a stable word."""

    def __init__(self, reason: str, *, next_step: str = "") -> None:
        super().__init__(f"job failed: {reason}", next_step=next_step)
        self.reason = reason


class JobCancelled(JobError):
    """The job was stopped on request, or its cover was withdrawn."""


class SandboxLost(Transient, JobError):
    """The child that ran the job's code ended without an answer."""


class SettingsError(ExchangeError):
    """A setting is missing, wrong, or contradicts another.

    ``variable`` is its environment name where it has one.
    """

    def __init__(self, problem: str, *, variable: str = "", next_step: str = "") -> None:
        text = f"{variable}: {problem}" if variable else problem
        super().__init__(f"{text}. Next: {next_step}" if next_step else text, next_step=next_step)
        self.variable = variable
