"""Presidio in charge: our families on the `no_op` pipeline, one list of disjoint spans out.

Nothing here reaches the network: no model is named, so none is downloaded, and the extractor of
public suffixes, which Presidio's own e-mail recogniser would update over HTTP, is pinned to its
snapshot before Presidio is used at all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import tldextract
import tldextract.tldextract
from presidio_analyzer import (
    AnalyzerEngine,
    EntityRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngineProvider
from presidio_anonymizer import AnonymizerEngine
from presidio_anonymizer.entities import OperatorConfig
from presidio_anonymizer.entities import RecognizerResult as Treated

from anonymize.context import PatientContext
from anonymize.errors import AnonymizeError, RecognizerFailed
from anonymize.operators import Generalise, KeyedPseudonym, ShiftDate
from anonymize.profile import Identifier
from anonymize.recognizers.known import known
from anonymize.recognizers.pattern import STRONG, set_deadline
from anonymize.recognizers.registry import families
from anonymize.shadow import shadow

tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(
    suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True
)

_CHARS_PER_BUDGET = 50_000  # longer notes get as many times the time as they are longer
_SEGMENT_CHARS = 20_000
_REMEMBERED = 50_000
_SHORT = 200
# Which kind wins where spans overlap at the same score: the more exact form first.
_RANK = {
    kind: rank
    for rank, kind in enumerate(
        (
            Identifier.EMAIL,
            Identifier.URL,
            Identifier.SSN,
            Identifier.HEALTH_PLAN,
            Identifier.MRN,
            Identifier.ACCOUNT,
            Identifier.LICENCE,
            Identifier.VEHICLE,
            Identifier.DEVICE,
            Identifier.FAX,
            Identifier.PHONE,
            Identifier.IP,
            Identifier.DATE,
            Identifier.FACILITY,
            Identifier.LOCATION,
            Identifier.ZIP,
            Identifier.NAME,
            Identifier.AGE,
            Identifier.CODE,
        )
    )
}


@dataclass(frozen=True)
class Span:
    """Where an identifier stands: `text[start:end]`, offsets in characters."""

    start: int
    end: int
    kind: Identifier
    score: float


class NoContext(ContextAwareEnhancer):
    """Context words are inside the patterns; Presidio's own enhancer would only copy results."""

    def __init__(self) -> None:
        """Set every factor to nothing."""
        super().__init__(0, 0, 0, 0)

    def enhance_using_context(
        self,
        text: str,  # noqa: ARG002  # Presidio's signature
        raw_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,  # noqa: ARG002
        recognizers: list[EntityRecognizer],  # noqa: ARG002
        context: list[str] | None = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        """Return the results as they are."""
        return raw_results


class Analysis:
    """The recognisers of one language, and the operators. Safe to share between threads."""

    def __init__(self, language: str) -> None:
        """Build the registry and both engines of Presidio."""
        self.language = language
        self._families = families(language)
        pipeline = NlpEngineProvider(
            nlp_configuration={
                "nlp_engine_name": "no_op",
                "models": [{"lang_code": language, "model_name": "no_op"}],
            }
        ).create_engine()
        self._analyzer = AnalyzerEngine(
            registry=RecognizerRegistry(
                recognizers=list(self._families), supported_languages=[language]
            ),
            nlp_engine=pipeline,
            context_aware_enhancer=NoContext(),
            supported_languages=[language],
        )
        self._anonymizer = AnonymizerEngine()  # type: ignore[no-untyped-call]  # Presidio's
        self._clean: dict[str, bool] = {}
        for operator in (KeyedPseudonym, ShiftDate, Generalise):
            self._anonymizer.add_anonymizer(operator)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every family's patterns, by the family's name."""
        return {family.name: family.digest for family in self._families}

    @property
    def digest(self) -> str:
        """SHA-256 over all families."""
        listed = "\n".join(f"{name} {digest}" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(listed.encode()).hexdigest()

    def find(
        self,
        text: str,
        *,
        timeout_seconds: float,
        context: PatientContext | None = None,
        threshold: float = 0.0,
    ) -> list[Span]:
        """Return disjoint spans of `text` in order, `threshold` being the least score.

        Raises:
            RecognizerFailed: a recogniser failed or the note's time is up.
        """
        budget = timeout_seconds * max(1.0, len(text) / _CHARS_PER_BUDGET)
        set_deadline(time.monotonic() + budget)
        try:
            results = self._analyzer.analyze(
                shadow(text),
                language=self.language,
                score_threshold=threshold,
                ad_hoc_recognizers=None if context is None else [known(context)],
            )
        except AnonymizeError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever broke, the record is held
            raise RecognizerFailed(type(error).__name__, timed_out=False) from None
        finally:
            set_deadline(float("inf"))
        return merged(Span(r.start, r.end, Identifier(r.entity_type), r.score) for r in results)

    def known_left(
        self, text: str, context: PatientContext, *, timeout_seconds: float
    ) -> list[Span]:
        """Return the spans of the patient's own values in `text`, dates left out.

        Raises:
            RecognizerFailed: out of time.
        """
        set_deadline(time.monotonic() + timeout_seconds * max(1.0, len(text) / _CHARS_PER_BUDGET))
        try:
            results = known(context).analyze(shadow(text), [])
        finally:
            set_deadline(float("inf"))
        spans = (Span(r.start, r.end, Identifier(r.entity_type), r.score) for r in results)
        return merged(span for span in spans if span.kind is not Identifier.DATE)

    def clean(self, text: str, *, timeout_seconds: float) -> bool:
        """Tell whether a short text holds nothing unmistakable; remembered, since codes repeat."""
        known_clean = self._clean.get(text)
        if known_clean is None:
            known_clean = not self.find(text, timeout_seconds=timeout_seconds, threshold=STRONG)
            if len(self._clean) < _REMEMBERED and len(text) <= _SHORT:
                self._clean[text] = known_clean
        return known_clean

    def treat(self, text: str, spans: list[Span], operators: Mapping[str, OperatorConfig]) -> str:
        """Return `text` with every span replaced as `operators` says.

        Raises:
            RecognizerFailed: an operator failed.
        """
        out = []
        for start, end, within in _segments(text, spans):
            results = [
                Treated(s.kind.value, s.start - start, s.end - start, s.score) for s in within
            ]
            try:
                treated = self._anonymizer.anonymize(
                    text[start:end], results, dict(operators), merge_entities_with_spaces=False
                )
            except AnonymizeError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever broke, the record is held
                raise RecognizerFailed(type(error).__name__, timed_out=False) from None
            out.append(str(treated.text))
        return "".join(out)


def merged(
    spans: Iterable[Span], rank: Callable[[Span], tuple[float, int]] | None = None
) -> list[Span]:
    """Unite overlapping spans; the union takes the kind of the highest score, then rank."""
    best = rank or (lambda span: (span.score, -_RANK[span.kind]))
    out: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if out and span.start < out[-1].end:
            last = out[-1]
            winner = max(last, span, key=best)
            end = max(last.end, span.end)
            out[-1] = Span(last.start, end, winner.kind, winner.score)
        else:
            out.append(span)
    return out


def _segments(text: str, spans: list[Span]) -> Iterator[tuple[int, int, list[Span]]]:
    # Presidio rebuilds the text for every replacement; short pieces keep long notes linear.
    start, within = 0, list[Span]()
    for span in spans:
        if span.start - start > _SEGMENT_CHARS and within:
            yield start, span.start, within
            start, within = span.start, []
        within.append(span)
    yield start, len(text), within
