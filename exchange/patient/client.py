"""A patient's connection to the exchange: everything the pages can do, for the command line and tests.

Every answer that is not a success is a :class:`Problem`. Creating requests carry an idempotency key and
are repeated once when the connection breaks, so that a repeated request has one effect.
"""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import httpx2

from exchange.errors import Conflict, ExchangeError, NotFound
from exchange.patient.signing import SignedConsent, consent_document, sign_consent, sign_lift
from ledger.errors import SignatureInvalid
from ledger.ids import ConsentId, SubjectId
from ledger.messages import Domain, Login, Receipt, Redeemed, from_hex, to_hex
from ledger.signing import Key, code_from_text, code_key, identity_key, verify

BATCH = 200
_EARLY_SECONDS = 30
_TIMEOUT = httpx2.Timeout(connect=5.0, read=60.0, write=30.0, pool=5.0)


class Problem(ExchangeError):
    """The exchange refused, and said why (RFC 9457). ``slug`` is the last word of its type."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(
            str(document.get("detail") or document.get("title") or f"status {status}"),
            next_step=str(document.get("next") or ""),
        )
        self.status = status
        self.slug = str(document.get("type", "")).rsplit("/", 1)[-1]
        self.document = document


class Patient:
    """One subject at one exchange. ``seed`` is 32 bytes; ``subject`` is None before enrolment.

    ``withdrawals`` keeps, by consent id, the withdrawals signed here; those of objections exist
    nowhere else. ``http`` is a client to use in place of an own one (tests).
    """

    def __init__(
        self,
        base_url: str,
        seed: bytes,
        subject: SubjectId | None = None,
        *,
        http: httpx2.Client | None = None,
        tls: str | bool = True,
    ) -> None:
        self.seed = seed
        self.subject = subject
        self.withdrawals: dict[ConsentId, SignedConsent] = {}
        self.receipts: list[dict[str, Any]] = []
        self._http = http or httpx2.Client(
            base_url=base_url.rstrip("/"),
            timeout=_TIMEOUT,
            verify=ssl.create_default_context(cafile=tls) if isinstance(tls, str) else tls,
            trust_env=False,
        )
        self._deployment: dict[str, Any] | None = None
        self._token = ""
        self._until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    @property
    def identity(self) -> Key:
        """The key that speaks for this patient at the hospital of ``subject``."""
        return identity_key(self.seed, self._me().org)

    @property
    def domain(self) -> Domain:
        """The deployment that signatures are made for; fetched once."""
        return Domain(from_hex(self.deployment()["deployment"], 32))

    def deployment(self) -> dict[str, Any]:
        """What ``GET /v1/deployment`` says; fetched once."""
        if self._deployment is None:
            self._deployment = self._ask("GET", "/v1/deployment", token=False)
        return self._deployment

    def trust(self, deployment: dict[str, Any]) -> None:
        """Use this deployment's description from now on, one that was fetched before."""
        self._deployment = deployment

    def notice(self, locale: str = "en") -> bytes:
        """The hash (32 bytes) of the present notice in a language."""
        notices = self.deployment()["notice"]
        if locale not in notices:
            raise NotFound(f"there is no notice in {locale[:8]}")
        return from_hex(notices[locale]["hash"], 32)

    def enrol(self, code: str) -> dict[str, Any]:
        """Redeem a code: from now on the seed's key speaks for the subject of the invitation.

        Raises:
            MalformedValue: not a code.
            Problem: ``not-found`` (no such invitation), ``code-used``, ``expired``.
        """
        key = code_key(code_from_text(code))
        found = self._ask("GET", f"/v1/invitations/{to_hex(key.address)}", token=False)
        subject = SubjectId.parse(found["subject"])
        identity = identity_key(self.seed, subject.org)
        redeemed = key.sign(Redeemed(subject, identity.address), self.domain)
        answer = self._create(
            "/v1/enrolments",
            {
                "subject": subject.hex,
                "identityKey": to_hex(identity.address),
                "redeemed": to_hex(redeemed),
            },
            token=False,
        )
        self.subject = subject
        self._keep(answer)
        return answer

    def login(self) -> None:
        """Sign a challenge and keep the token until it ends."""
        subject = self._me()
        asked = self._ask("POST", "/v1/challenges", {"subject": subject.hex}, token=False)
        challenge, expiry = from_hex(asked["challenge"], 32), int(asked["expires"])
        signature = self.identity.sign(Login(subject, challenge, expiry), self.domain)
        answer = self._ask(
            "POST",
            "/v1/sessions",
            {
                "subject": subject.hex,
                "challenge": asked["challenge"],
                "expiry": expiry,
                "signature": to_hex(signature),
            },
            token=False,
        )
        self._token = str(answer["token"])
        self._until = time.monotonic() + int(answer["expires_in"])

    def document(self, decision: str, **wanted: Any) -> dict[str, Any]:
        """A consent document of this subject under the present notice (:func:`consent_document`)."""
        locale = wanted.get("locale", "en")
        return consent_document(self._me(), decision, notice=self.notice(locale), **wanted)

    def sign(self, document: dict[str, Any]) -> SignedConsent:
        """Sign a document; the withdrawal is kept here."""
        signed = sign_consent(document, self.identity, self.domain)
        self.withdrawals[signed.id] = signed
        return signed

    def grant(self, **wanted: Any) -> dict[str, Any]:
        """Give a permit; it counts once the chain has recorded it."""
        return self.submit(self.sign(self.document("permit", **wanted)))

    def object(self, **wanted: Any) -> dict[str, Any]:
        """Object; it counts at once, above every permit. Actions default to both."""
        return self.submit(self.sign(self.document("deny", **wanted)))

    def submit(self, signed: SignedConsent) -> dict[str, Any]:
        """Hand in one signed consent."""
        answer = self._create("/v1/consents", signed.submission)
        self._keep(answer)
        return answer

    def submit_many(self, signed: Sequence[SignedConsent]) -> list[dict[str, Any]]:
        """Hand in many, 200 at a time; each item of the answer is a consent or a problem."""
        results: list[dict[str, Any]] = []
        for start in range(0, len(signed), BATCH):
            chunk = [item.submission for item in signed[start : start + BATCH]]
            answer = self._create("/v1/consents/batch", {"consents": chunk})
            for item in answer["results"]:
                self._keep(item)
                results.append(item)
        return results

    def withdraw(self, consent: ConsentId) -> dict[str, Any]:
        """Withdraw a permit: it counts when this returns. Safe to repeat."""
        answer = self._create(f"/v1/consents/{consent.hex}/withdrawal", {})
        self._keep(answer)
        return answer

    def lift(self, consent: ConsentId) -> dict[str, Any]:
        """Lift an objection; it ends once the chain has recorded it.

        Raises:
            Conflict: the objection's withdrawal is not kept here.
        """
        signed = self.withdrawals.get(consent)
        if signed is None:
            raise Conflict(
                f"the withdrawal of objection {consent} is not on this device",
                next_step="use the device on which you objected, or its backup",
            )
        answer = self._create(
            f"/v1/consents/{consent.hex}/withdrawal",
            {
                "signature": to_hex(signed.withdraw_signature),
                "lift": to_hex(sign_lift(signed.commitment, self.identity, self.domain)),
            },
        )
        self._keep(answer)
        return answer

    def consents(self) -> list[dict[str, Any]]:
        """Every consent and objection of this subject, oldest first."""
        return self._pages("/v1/consents")

    def consent(self, consent: ConsentId) -> dict[str, Any]:
        """One consent."""
        return self._ask("GET", f"/v1/consents/{consent.hex}")

    def me(self) -> dict[str, Any]:
        """Who I am here and what is held."""
        return self._ask("GET", "/v1/me")

    def history(self) -> list[dict[str, Any]]:
        """Every access that was decided about me and what became of it, oldest first."""
        return self._pages("/v1/me/accesses")

    def receipt(self, index: int) -> dict[str, Any]:
        """The receipt of one of my leaves; its signature is checked.

        Raises:
            SignatureInvalid: not signed by the exchange's key.
        """
        answer = self._ask("GET", f"/v1/receipts/{index}")
        self._check(answer)
        return answer

    def events(self, last: int | None = None) -> Iterator[dict[str, Any]]:
        """Changes as they happen: ``{"id", "event", "data"}``. Ends when the connection does."""
        headers = self._headers()
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        with self._http.stream("GET", "/v1/me/events", headers=headers) as response:
            if response.status_code != 200:
                response.read()
                _answer(response)
            event: dict[str, Any] = {}
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if not line and "data" in event:
                    yield event
                    event = {}
                elif name == "data":
                    event["data"] = json.loads(value)
                elif name in ("id", "event"):
                    event[name] = int(value) if name == "id" else value

    def _me(self) -> SubjectId:
        if self.subject is None:
            raise Conflict("no subject yet", next_step="enrol with the hospital's code first")
        return self.subject

    def _keep(self, answer: dict[str, Any]) -> None:
        receipt = answer.get("receipt")
        if receipt is not None:
            self._check(receipt)
            self.receipts.append(receipt)

    def _check(self, receipt: dict[str, Any]) -> None:
        message = Receipt(int(receipt["index"]), from_hex(receipt["leafHash"], 32))
        exchange = from_hex(self.deployment()["exchange"], 20)
        try:
            verify(message, from_hex(receipt["signature"], 64), exchange, self.domain)
        except SignatureInvalid:
            raise SignatureInvalid(
                f"receipt {message.index} is not signed by the exchange's key"
            ) from None

    def _headers(self) -> dict[str, str]:
        if time.monotonic() > self._until - _EARLY_SECONDS:
            self.login()
        return {"Authorization": f"Bearer {self._token}"}

    def _pages(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self._ask("GET", path + (f"?cursor={cursor}" if cursor else ""))
            items.extend(page["items"])
            if not page["next"]:
                return items
            cursor = page["next"]

    def _create(self, path: str, body: dict[str, Any], *, token: bool = True) -> dict[str, Any]:
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        try:
            return self._ask("POST", path, body, token=token, headers=headers)
        except httpx2.TransportError:
            # Whether it arrived is unknown; the same key makes the repetition harmless.
            return self._ask("POST", path, body, token=token, headers=headers)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: bool = True,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        sent = {**(headers or {}), **(self._headers() if token else {})}
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        if content is not None:
            sent["Content-Type"] = "application/json"
        return _answer(self._http.request(method, path, content=content, headers=sent))


def _answer(response: httpx2.Response) -> dict[str, Any]:
    try:
        document = response.json() if response.content else {}
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    if response.status_code >= 400:
        raise Problem(response.status_code, document)
    return document
