"""Class -> status, slug, next step: one row for every error of the four packages.

Classes stand here by package and name, so that reading the table imports no room. Slugs are part of the
public interface and never change their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of errors is answered."""

    status: int
    slug: str
    next_step: str


_AGAIN = "repeat the same request in a few seconds; nothing was changed"
OPERATOR = "tell the operator the trace id"
_SIGN_AGAIN = "correct it, sign again, and repeat"

TABLE: Final[dict[str, Row]] = {
    # exchange
    "exchange.ExchangeError": Row(500, "internal", OPERATOR),
    "exchange.NotAuthenticated": Row(401, "not-authenticated", "log in and send the bearer token"),
    "exchange.NotEntitled": Row(404, "not-found", "check the id and the account you use"),
    "exchange.NotFound": Row(404, "not-found", "check the id and the account you use"),
    "exchange.InvitationUnknown": Row(
        404, "invitation-unknown", "type the code again, or ask the hospital for a new one"
    ),
    "exchange.Malformed": Row(400, "malformed", "correct the member at the pointer and repeat"),
    "exchange.BodyMalformed": Row(
        400, "body-malformed", "send UTF-8 JSON (RFC 8259), every key once, at most 64 levels"
    ),
    "exchange.IdempotencyKeyMissing": Row(
        400, "idempotency-key-missing", "send a new random Idempotency-Key, the same on a retry"
    ),
    "exchange.IdempotencyKeyMalformed": Row(
        400, "idempotency-key-malformed", "send 1 to 255 visible ASCII characters"
    ),
    "exchange.BodyTooLarge": Row(
        413, "body-too-large", "send less at once; batches take at most 200 consents"
    ),
    "exchange.LengthRequired": Row(411, "length-required", "send Content-Length"),
    "exchange.UnsupportedMediaType": Row(
        415, "unsupported-media-type", "send application/json where nothing else is asked for"
    ),
    "exchange.RateLimited": Row(429, "rate-limited", "wait as long as Retry-After says"),
    "exchange.Conflict": Row(409, "conflict", "read the present state, then decide again"),
    "exchange.AlreadyExists": Row(409, "already-exists", "read the existing one"),
    "exchange.InvitationUsed": Row(
        409, "code-used", "if it was not you who used the code, tell the hospital at once"
    ),
    "exchange.ConsentKeyUsed": Row(
        409, "consent-key-used", "draw a new consent key and sign the terms again"
    ),
    "exchange.VersionNotReady": Row(409, "version-not-ready", "finish the step before this one"),
    "exchange.IdempotencyInFlight": Row(
        409, "idempotency-in-flight", "wait for the first answer, or repeat in a second"
    ),
    "exchange.Unprocessable": Row(422, "unprocessable", _SIGN_AGAIN),
    "exchange.ConsentRefused": Row(422, "consent-refused", _SIGN_AGAIN),
    "exchange.SubjectMismatch": Row(
        422, "subject-mismatch", "log in as the subject for whom the consent speaks"
    ),
    "exchange.NoticeUnknown": Row(
        422, "notice-unknown", "show the patient a notice of GET /v1/deployment and sign again"
    ),
    "exchange.TermsMismatch": Row(
        422, "terms-mismatch", "build the terms from the document and sign again"
    ),
    "exchange.SignatureRefused": Row(
        422, "signature-invalid", "sign for this deployment with the named key, low s, 64 bytes"
    ),
    "exchange.ConsentKeyMismatch": Row(
        422, "consent-key-mismatch", "sign the grant with the key that the terms name"
    ),
    "exchange.DeadlineExpired": Row(
        422, "deadline-expired", "sign the terms again with a signBy in the near future"
    ),
    "exchange.DeadlineTooFar": Row(
        422, "deadline-too-far", "sign the terms again with a signBy within a day"
    ),
    "exchange.PeriodInvalid": Row(422, "period-invalid", "choose another period and sign again"),
    "exchange.UntilDayWrong": Row(
        422, "until-day-wrong", "use the last day of the month in which the consent ends"
    ),
    "exchange.WithdrawMissing": Row(
        422, "withdraw-missing", "sign the withdrawal with the consent key and send it as well"
    ),
    "exchange.WithdrawUnexpected": Row(
        422, "withdraw-unexpected", "keep the objection's withdrawal and send it only to lift it"
    ),
    "exchange.LiftMissing": Row(
        422, "lift-missing", "sign Lift with the identity key and send it with the withdrawal"
    ),
    "exchange.SupersedesInvalid": Row(
        422, "supersedes-invalid", "name one of your permits that is in force, or none"
    ),
    "exchange.InvitationRefused": Row(422, "invitation-refused", _SIGN_AGAIN),
    "exchange.RequestRefused": Row(422, "request-refused", _SIGN_AGAIN),
    "exchange.DocumentMalformed": Row(422, "document-malformed", _SIGN_AGAIN),
    "exchange.ContentMismatch": Row(
        422, "content-mismatch", "send exactly the bytes that the signed manifest commits to"
    ),
    "exchange.IdempotencyMismatch": Row(
        422, "idempotency-mismatch", "use a new Idempotency-Key for another payload"
    ),
    "exchange.Expired": Row(410, "expired", "ask for a new one and repeat"),
    "exchange.SealError": Row(500, "seal", OPERATOR),
    "exchange.EnvelopeCorrupt": Row(
        422, "envelope-corrupt", "seal it again for this deployment and send it again"
    ),
    "exchange.EnvelopeVersionUnknown": Row(
        422, "envelope-version-unknown", "seal it with a version that this deployment knows"
    ),
    "exchange.KeyShredded": Row(410, "key-shredded", "nothing: this was erased by design"),
    "exchange.VaultError": Row(500, "vault", OPERATOR),
    "exchange.BlobMissing": Row(500, "blob-missing", OPERATOR),
    "exchange.VaultUnavailable": Row(503, "vault-unavailable", _AGAIN),
    "exchange.KeysError": Row(502, "keys", OPERATOR),
    "exchange.KeysRefused": Row(
        403, "keys-refused", "the keys process verified by itself and refused: see the reasons"
    ),
    "exchange.KeysUnavailable": Row(503, "keys-unavailable", _AGAIN),
    "exchange.StoreError": Row(500, "store", OPERATOR),
    "exchange.StoreReadOnly": Row(503, "store-read-only", OPERATOR),
    "exchange.SchemaUnknown": Row(503, "schema-unknown", OPERATOR),
    "exchange.StoreUnavailable": Row(503, "store-unavailable", _AGAIN),
    "exchange.ChainBehind": Row(503, "chain-behind", "repeat once the node answers again"),
    "exchange.JobError": Row(409, "job", "submit the job again"),
    "exchange.JobFailed": Row(409, "job-failed", "see the reason, correct the job, submit again"),
    "exchange.JobCancelled": Row(
        409, "job-cancelled", "submit a new job for what is still covered"
    ),
    "exchange.SandboxLost": Row(503, "sandbox-lost", _AGAIN),
    "exchange.SettingsError": Row(500, "settings", OPERATOR),
    # What a client of ours was told by an exchange; a door never raises it.
    "exchange.Problem": Row(502, "problem-elsewhere", OPERATOR),
    # ledger
    "ledger.LedgerError": Row(500, "ledger", OPERATOR),
    "ledger.MalformedValue": Row(400, "malformed-value", "send it in the documented form"),
    "ledger.IdMalformed": Row(400, "id-malformed", "send the id as 0x and lower-case hex"),
    "ledger.VersionUnknown": Row(422, "version-unknown", "use a version of GET /v1/deployment"),
    "ledger.ConsentError": Row(422, "consent", _SIGN_AGAIN),
    "ledger.ConsentNotFound": Row(404, "not-found", "check the id and the account you use"),
    "ledger.IllegalTransition": Row(409, "illegal-transition", "read the present state first"),
    "ledger.GrammarUnknown": Row(
        422, "grammar-unknown", "write the document in grammar assent.consent/1"
    ),
    "ledger.ConsentMalformed": Row(422, "consent-malformed", _SIGN_AGAIN),
    "ledger.SignatureInvalid": Row(
        422, "signature-invalid", "sign for this deployment with the named key, low s, 64 bytes"
    ),
    "ledger.VerificationError": Row(422, "verification", "compare with the numbered steps"),
    "ledger.TrustInvalid": Row(422, "trust-invalid", "make a new trust.json"),
    "ledger.BundleMalformed": Row(422, "bundle-malformed", "fetch the bundle again"),
    "ledger.EvidenceInvalid": Row(422, "evidence-invalid", "report it to the auditor"),
    "ledger.CommitmentMismatch": Row(422, "commitment-mismatch", "report it to the auditor"),
    "ledger.NotInForce": Row(422, "not-in-force", "report it to the auditor"),
    "ledger.RulingNotReproducible": Row(422, "ruling-differs", "report it to the auditor"),
    "ledger.InclusionInvalid": Row(422, "inclusion-invalid", "report it to the auditor"),
    "ledger.CheckpointInvalid": Row(422, "checkpoint-invalid", "report it to the auditor"),
    "ledger.ReleaseMismatch": Row(422, "release-mismatch", "report it to the auditor"),
    "ledger.ChainError": Row(502, "chain", OPERATOR),
    "ledger.ChainUnreachable": Row(503, "chain-unreachable", _AGAIN),
    "ledger.NotMined": Row(503, "not-mined", _AGAIN),
    "ledger.Reverted": Row(502, "reverted", OPERATOR),
    "ledger.Reorganised": Row(503, "reorganised", _AGAIN),
    "ledger.WrongChain": Row(502, "wrong-chain", OPERATOR),
    "ledger.NodeError": Row(502, "node", OPERATOR),
    "ledger.NodeUnavailable": Row(503, "node-unavailable", _AGAIN),
    "ledger.JournalNotReproduced": Row(500, "journal-not-reproduced", OPERATOR),
    "ledger.BuildError": Row(500, "build", OPERATOR),
    # anonymize
    "anonymize.AnonymizeError": Row(500, "de-identification", OPERATOR),
    "anonymize.ProfileError": Row(422, "profile", "name a known profile or column"),
    "anonymize.KeyUnusable": Row(422, "key-unusable", "make the key again"),
    "anonymize.EngineUnavailable": Row(503, "engine-unavailable", _AGAIN),
    "anonymize.RecognizerFailed": Row(503, "recognizer-failed", "see the quarantined records"),
    "anonymize.UnsupportedResource": Row(
        422, "unsupported-resource", "leave that resource type out"
    ),
    "anonymize.RecordUnreadable": Row(422, "record-unreadable", "correct the record there"),
    "anonymize.LeakDetected": Row(422, "leak-detected", "de-identify again and publish anew"),
    # compute
    "compute.ComputeError": Row(500, "compute", OPERATOR),
    "compute.PermitExpired": Row(409, "permit-expired", "ask again under a present consent"),
    "compute.PermitMissing": Row(409, "permit-missing", "leave out who is not covered"),
    "compute.CoverLost": Row(409, "cover-lost", "encrypt again without the named slots"),
    "compute.ModelUnknown": Row(422, "model-unknown", "register the model first"),
    "compute.ModelDigestMismatch": Row(
        422, "model-digest-mismatch", "send the bytes that the digest names"
    ),
    "compute.ModelRefused": Row(
        422, "model-refused", "send safetensors, or JSON of a known architecture"
    ),
    "compute.CiphertextRefused": Row(
        422, "ciphertext-refused", "encrypt again with a preset of the model's card"
    ),
    "compute.ContextRefused": Row(422, "context-refused", "send a public context of a preset"),
    "compute.DepthExhausted": Row(422, "depth-exhausted", "use a deeper preset"),
    "compute.CohortTooSmall": Row(422, "cohort-too-small", "ask about a larger group"),
    "compute.BudgetExhausted": Row(429, "budget-exhausted", "nothing: the budget is used up"),
    "compute.InputMalformed": Row(422, "input-malformed", "correct the input at the position"),
    "compute.IllegalTransition": Row(409, "job-transition", "read the job's state first"),
    "compute.NotComputable": Row(422, "not-computable", "see which computations exist"),
}
