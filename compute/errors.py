"""Everything that can go wrong in `compute`, as one tree.

    ComputeError
    ├─ PermitExpired          the ruling that allowed this no longer holds
    ├─ PermitMissing          somebody in the input is covered by no ruling
    ├─ CoverLost              a slot of a shared ciphertext lost its consent: repack without it
    ├─ ModelUnknown           no model with that digest was handed in
    ├─ ModelDigestMismatch    the bytes are not those that the digest names
    ├─ ModelRefused           the file or the card is not one that is ever loaded
    ├─ DepthExhausted         the model is deeper than the ciphertext's parameters allow
    ├─ CohortTooSmall         fewer people than the threshold
    ├─ BudgetExhausted        a key or a requester has used up what it may use
    ├─ CiphertextRefused      a request or a reply is malformed, altered or of wrong parameters
    ├─ ContextRefused         a context holds a secret, or parameters off the allow-list
    ├─ InputMalformed         rows, columns, a specification: not what was announced
    ├─ IllegalTransition      a job cannot go from that state to this one
    └─ NotComputable          nobody here knows how, or not within the stated precision

Messages carry ids, names of columns, positions and counts; never a value.
"""


class ComputeError(Exception):
    """Base of this package's tree; it is never raised itself."""


class PermitExpired(ComputeError):
    """The permit's `expires` is not after the time of the run."""


class PermitMissing(ComputeError):
    """No `Permit` was given, or none for one of the subjects."""


class CoverLost(ComputeError):
    """Consent ended for a slot of a ciphertext that several patients share (D9).

    `slots` holds the positions, so that the hospital can repack without them.
    """

    def __init__(self, slots: tuple[int, ...]) -> None:
        """Remember the positions that lost their cover."""
        self.slots = slots
        super().__init__(f"{len(slots)} slot(s) lost their consent; encrypt again without them")


class ModelUnknown(ComputeError):
    """The job names a model that was not handed in, or names none although it needs one."""


class ModelDigestMismatch(ComputeError):
    """SHA-256 of the exact bytes differs from the digest that the card or the job pins."""


class _Refusal(ComputeError):
    """A refusal with a stable slug in `reason` and the position in words."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the slug apart from the words."""
        self.reason = reason
        super().__init__(f"{reason}: {detail}")


class ModelRefused(_Refusal):
    """A model file or card that is never loaded; `reason` is for instance `pickle` or `zip`."""


class CiphertextRefused(_Refusal):
    """A request or reply that is malformed, altered, or encrypted under wrong parameters."""


class ContextRefused(_Refusal):
    """A context that holds a secret key or is off the allow-list (threats P11, J12)."""


class DepthExhausted(ComputeError):
    """The circuit needs more multiplications than the parameters leave room for."""


class CohortTooSmall(ComputeError):
    """Fewer distinct people than the minimum cohort (threats P2)."""

    def __init__(self, threshold: int) -> None:
        """Name the threshold only: the true number is what must not leave."""
        self.threshold = threshold
        super().__init__(f"fewer than {threshold} people are covered")


class BudgetExhausted(ComputeError):
    """A bounded resource is used up, for instance decryptions under one key (threats P9)."""


class InputMalformed(ComputeError):
    """Input whose shape, names or numbers are not what was announced."""


class IllegalTransition(ComputeError):
    """A job state that cannot follow the present one."""


class NotComputable(ComputeError):
    """No engine for this, or none that would keep the stated precision."""
