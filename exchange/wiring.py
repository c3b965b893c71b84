"""Settings in, one exchange of built parts out: by hand, readable from top to bottom.

The worker and the api build the same parts; what only the worker needs it builds itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from exchange.access import Requests
from exchange.audit import Audit
from exchange.catalogue import Catalogue
from exchange.clock import Clock, SystemClock
from exchange.consents import Consents
from exchange.deployment import Deployment, load_deployment, take_founders
from exchange.disclosures import Disclosures
from exchange.enrolment import Enrolment
from exchange.gate import Gate
from exchange.jobs import Jobs
from exchange.keys.client import KeysClient
from exchange.models import Models
from exchange.notice import Notices, load_notices
from exchange.participants import Participants
from exchange.release import Releases
from exchange.sessions import Sessions
from exchange.settings import Settings
from exchange.store.database import Store
from exchange.vault import Vault


@dataclass(frozen=True)
class Exchange:
    """Every part that a door may call. Close it when the process ends."""

    settings: Settings
    clock: Clock
    deployment: Deployment
    notices: Notices
    store: Store
    vault: Vault
    keys: KeysClient
    gate: Gate
    sessions: Sessions
    participants: Participants
    enrolment: Enrolment
    consents: Consents
    disclosures: Disclosures
    catalogue: Catalogue
    requests: Requests
    releases: Releases
    jobs: Jobs
    models: Models
    audit: Audit

    def close(self) -> None:
        """Finish the waiting writes and let go of everything. Repeating it does nothing."""
        self.keys.close()
        self.store.close()


def build(settings: Settings, *, clock: Clock | None = None) -> Exchange:
    """Open the store, the vault and the deployment, and build the parts on them.

    Raises:
        SettingsError: there is no deployment yet.
        StoreUnavailable, SchemaUnknown: the store cannot be opened.
        VaultUnavailable: the vault cannot be opened.
    """
    clock = clock or SystemClock()
    deployment = load_deployment(settings.deployment_file)
    domain = deployment.domain
    store = Store.open(settings.database_url)
    try:
        take_founders(store, deployment, clock)
        vault = Vault.open(settings.vault_url)
        keys = KeysClient(settings.keys_socket)
        gate = Gate(settings.ledger.stale_seconds, clock)
        notices = load_notices()
        return Exchange(
            settings=settings,
            clock=clock,
            deployment=deployment,
            notices=notices,
            store=store,
            vault=vault,
            keys=keys,
            gate=gate,
            sessions=Sessions(store, domain, clock, token_seconds=settings.token_seconds),
            participants=Participants(store, keys, domain, clock),
            enrolment=Enrolment(store, domain, clock),
            consents=Consents(store, keys, domain, notices.known, clock),
            disclosures=Disclosures(store),
            catalogue=Catalogue(store, vault, domain, clock),
            requests=Requests(store, gate, domain, clock),
            releases=Releases(store=store, gate=gate, keys=keys, vault=vault, clock=clock),
            jobs=Jobs(store, gate, vault, domain, clock),
            models=Models(store, vault, domain, clock),
            audit=Audit(store, deployment),
        )
    except BaseException:
        store.close()
        raise
