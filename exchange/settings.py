"""All configuration, read once from the environment and then frozen.

The only module of the exchange that reads the environment. Names begin with ``ASSENT_``; a nested
group follows after two underscores: ``ASSENT_LEDGER__RPC_URL``. A wrong, unknown or contradictory
setting stops the process with a :class:`~exchange.errors.SettingsError` that names the variable and
the next step; the wrong value itself is never repeated.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exchange.errors import SettingsError
from exchange.password_files import with_password

PREFIX = "ASSENT_"
_DELIMITER = "__"
_SQLITE = "sqlite:///"


class LedgerSettings(BaseModel):
    """The chain that the exchange writes to and follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpc_url: str | None = Field(
        default=None,
        repr=False,
        description="JSON-RPC address of the node. Unset: the managed node of this data folder.",
    )
    port: int = Field(
        default=8545, ge=0, le=65535, description="Port of the managed node; 0 takes a free one."
    )
    finality: Literal["managed", "instant", "depth", "finalized"] = Field(
        default="managed",
        description=(
            "When a record counts: managed (our own node, at once), instant (a network without "
            "reorganisations), depth (after a number of blocks), finalized (the network's tag)."
        ),
    )
    depth: int = Field(default=12, ge=1, le=10_000, description="Blocks to wait for, with depth.")
    stale_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="After how long without the node's answer new releases are denied.",
    )
    anchor_seconds: float = Field(
        default=10.0, gt=0, le=86_400, description="How often a checkpoint of the log is anchored."
    )


class ApiSettings(BaseModel):
    """The HTTP door."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8420, ge=0, le=65535, description="Port; 0 takes a free one.")
    base_url: str | None = Field(
        default=None, description="The address that clients use, where it is not host and port."
    )
    tls_cert: Path | None = Field(default=None, description="Certificate chain, PEM.")
    tls_key: Path | None = Field(default=None, repr=False, description="Its private key, PEM.")
    tls_terminated: bool = Field(
        default=False,
        description="A proxy on the same private network ends TLS before this process.",
    )
    max_body: int = Field(
        default=1 << 24, ge=1024, description="Largest JSON body taken, in bytes."
    )
    max_content: int = Field(
        default=1 << 34, ge=1024, description="Largest content of a dataset version, in bytes."
    )


class WorkerSettings(BaseModel):
    """The process that keeps promises and runs jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(default=2, ge=1, le=256, description="Jobs at the same time.")
    job_seconds: float = Field(
        default=600.0, gt=0, description="How long a job's child may run before it is ended."
    )
    job_memory: int = Field(
        default=2 << 30, ge=64 << 20, description="Memory of a job's child, in bytes."
    )
    database_url: str | None = Field(
        default=None,
        repr=False,
        description="Where the worker's queue is durable. Unset: its own file in the data folder.",
    )
    database_password_file: Path | None = Field(
        default=None, description="A file that holds the password of that address."
    )


class Settings(BaseModel):
    """Everything that can be set. Build it with :func:`load_settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    environment: Literal["development", "production"] = Field(
        default="development", description="Production refuses what only suits development."
    )
    data_dir: Path = Field(default=Path(".assent"), description="Where everything embedded lies.")
    database_url: str = Field(
        default="",
        repr=False,
        description="The store: sqlite:///FILE or postgresql://… Unset: a file in the data folder.",
    )
    database_password_file: Path | None = Field(
        default=None, description="A file that holds the password of the store's address."
    )
    keys_database_url: str = Field(
        default="",
        repr=False,
        description="The keys process's own database. Unset: a file in the data folder.",
    )
    keys_database_password_file: Path | None = Field(
        default=None, description="A file that holds the password of the keys database's address."
    )
    vault_url: str = Field(
        default="",
        repr=False,
        description="Where sealed bytes lie: file:///… or s3://… Unset: the data folder.",
    )
    token_seconds: int = Field(
        default=900, ge=30, le=86_400, description="How long a bearer token is good."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe lines that are written."
    )
    ledger: LedgerSettings = Field(default_factory=LedgerSettings, description="The chain.")
    api: ApiSettings = Field(default_factory=ApiSettings, description="The HTTP door.")
    worker: WorkerSettings = Field(default_factory=WorkerSettings, description="The worker.")

    @property
    def run_dir(self) -> Path:
        """Where sockets and process ids lie."""
        return self.data_dir / "run"

    @property
    def keys_socket(self) -> Path:
        """The Unix socket of the keys process."""
        return self.run_dir / "keys.sock"

    @property
    def deployment_file(self) -> Path:
        """What ``assent deploy`` wrote once: addresses, code hashes, founders."""
        return self.data_dir / "deployment.json"

    @property
    def rpc_url(self) -> str:
        """The node's address: the one set, or the managed node's."""
        return self.ledger.rpc_url or f"http://127.0.0.1:{self.ledger.port}"

    @property
    def base_url(self) -> str:
        """The address under which clients reach the api, without a slash at the end."""
        if self.api.base_url:
            return self.api.base_url.rstrip("/")
        scheme = "https" if self.api.tls_cert or self.api.tls_terminated else "http"
        host = f"[{self.api.host}]" if ":" in self.api.host else self.api.host
        return f"{scheme}://{host}:{self.api.port}"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from ``environ`` (this process's own by default), complete and check them.

    Raises:
        SettingsError: a variable is unknown in its group, has no valid value, or contradicts
            another; the error names it and the next step.

    """
    source = os.environ if environ is None else environ
    given = _nested(source)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise _explained(error) from None
    settings = settings.model_copy(update=_completed(settings))
    _check(settings)
    return settings


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that make another process load the same settings."""
    found: dict[str, str] = {}

    def put(prefix: str, model: BaseModel) -> None:
        for name in type(model).model_fields:
            value = getattr(model, name)
            variable = prefix + name.upper()
            if isinstance(value, BaseModel):
                put(variable + _DELIMITER, value)
            elif isinstance(value, bool):
                found[variable] = "true" if value else "false"
            elif value is not None:
                found[variable] = str(value)

    put(PREFIX, settings)
    return found


def described() -> list[tuple[str, str, str, str]]:
    """Return (variable, type, default, description) of every setting, in order, for the manual."""
    rows: list[tuple[str, str, str, str]] = []

    def put(prefix: str, model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                put(prefix + name.upper() + _DELIMITER, kind)
                continue
            default = "" if field.default is None else str(field.default)
            kind_name = kind.__name__ if isinstance(kind, type) else str(kind)
            kind_name = kind_name.replace("typing.", "").replace("pathlib.", "")
            rows.append((prefix + name.upper(), kind_name, default, field.description or ""))

    put(PREFIX, Settings)
    return rows


def _groups() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _nested(source: Mapping[str, str]) -> dict[str, Any]:
    """Return the known variables as nested values; refuse unknown ones.

    Variables of a program that shares the prefix would be indistinguishable from a misspelt
    setting, and a misspelt ``ASSENT_API__TLS_CERT`` must not start a door without TLS.
    """
    groups = _groups()
    given: dict[str, Any] = {}
    for variable, value in source.items():
        upper = variable.upper()
        if not upper.startswith(PREFIX):
            continue
        head, _, tail = upper[len(PREFIX) :].lower().partition(_DELIMITER)
        if head in groups and tail in groups[head].model_fields:
            given.setdefault(head, {})[tail] = value
        elif not tail and head in Settings.model_fields and head not in groups:
            given[head] = value
        elif head in groups or tail or _near(upper):
            close = _near(upper)
            hint = f"did you mean {close}?" if close else "see docs/settings.md for the names"
            raise SettingsError("no such setting", variable=upper, next_step=hint)
    return given


def _near(variable: str) -> str | None:
    names = [row[0] for row in described()]
    close = difflib.get_close_matches(variable, names, n=1, cutoff=0.8)
    return close[0] if close else None


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + _DELIMITER.join(str(part) for part in location).upper()


def _explained(error: ValidationError) -> SettingsError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    variable = _variable(first["loc"])
    meaning = {row[0]: row[3] for row in described()}.get(variable, "")
    return SettingsError(
        first["msg"][0].lower() + first["msg"][1:],
        variable=variable,
        next_step=f"correct or unset it ({meaning})" if meaning else "correct or unset it",
    )


def _completed(settings: Settings) -> dict[str, object]:
    data = settings.data_dir.expanduser().absolute()
    worker, variable = settings.worker, "ASSENT_WORKER__DATABASE_PASSWORD_FILE"
    queue = with_password(worker.database_url or "", worker.database_password_file, variable)
    return {
        "data_dir": data,
        "database_url": with_password(
            settings.database_url, settings.database_password_file, "ASSENT_DATABASE_PASSWORD_FILE"
        )
        or f"{_SQLITE}{data / 'store.sqlite'}",
        "keys_database_url": with_password(
            settings.keys_database_url,
            settings.keys_database_password_file,
            "ASSENT_KEYS_DATABASE_PASSWORD_FILE",
        )
        or f"{_SQLITE}{data / 'keys.sqlite'}",
        "vault_url": settings.vault_url or (data / "vault").as_uri(),
        "worker": worker.model_copy(update={"database_url": queue or None}),
    }


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check(settings: Settings) -> None:
    _check_urls(settings)
    _check_tls(settings)
    if settings.environment == "production":
        _check_production(settings)


def _check_urls(settings: Settings) -> None:
    for variable, url, schemes in (
        ("ASSENT_DATABASE_URL", settings.database_url, ("sqlite", "postgresql")),
        ("ASSENT_KEYS_DATABASE_URL", settings.keys_database_url, ("sqlite", "postgresql")),
        ("ASSENT_LEDGER__RPC_URL", settings.rpc_url, ("http", "https")),
    ):
        scheme = url.split(":", 1)[0].split("+", 1)[0]
        if scheme not in schemes:
            wanted = " or ".join(schemes)
            raise SettingsError(
                "unknown kind of address", variable=variable, next_step=f"use {wanted}://…"
            )
    if settings.database_url == settings.keys_database_url and _is_file(settings.database_url):
        raise SettingsError(
            "is the same database as ASSENT_DATABASE_URL",
            variable="ASSENT_KEYS_DATABASE_URL",
            next_step="give the keys process a database that the api cannot read",
        )
    if settings.ledger.rpc_url and settings.ledger.finality == "managed":
        host = urlsplit(settings.ledger.rpc_url).hostname or ""
        if not _is_loopback(host) and "." in host:
            raise SettingsError(
                "managed is only true of a node that this installation runs",
                variable="ASSENT_LEDGER__FINALITY",
                next_step="set instant, depth or finalized, as the network has it",
            )


def _is_file(url: str) -> bool:
    return url.startswith("sqlite")


def _check_tls(settings: Settings) -> None:
    api = settings.api
    if (api.tls_cert is None) != (api.tls_key is None):
        missing = "ASSENT_API__TLS_KEY" if api.tls_key is None else "ASSENT_API__TLS_CERT"
        raise SettingsError(
            "is missing, while its counterpart is set",
            variable=missing,
            next_step="set both or neither",
        )
    if not _is_loopback(api.host) and api.tls_cert is None and not api.tls_terminated:
        raise SettingsError(
            "an address that others can reach needs TLS",
            variable="ASSENT_API__TLS_CERT",
            next_step=(
                "set ASSENT_API__TLS_CERT and ASSENT_API__TLS_KEY, or ASSENT_API__TLS_TERMINATED "
                "where a proxy ends TLS, or ASSENT_API__HOST=127.0.0.1"
            ),
        )


def _check_production(settings: Settings) -> None:
    if settings.api.base_url is not None and not settings.api.base_url.startswith("https://"):
        raise SettingsError(
            "production is reached over TLS only",
            variable="ASSENT_API__BASE_URL",
            next_step="give an https:// address",
        )
    if settings.ledger.finality == "managed":
        raise SettingsError(
            "a node that one operator runs alone proves nothing to others",
            variable="ASSENT_LEDGER__FINALITY",
            next_step="set ASSENT_LEDGER__RPC_URL to a shared network and its finality",
        )
    host = urlsplit(settings.rpc_url).hostname or ""
    if settings.rpc_url.startswith("http://") and not _is_loopback(host):
        raise SettingsError(
            "production does not follow a chain over plain HTTP",
            variable="ASSENT_LEDGER__RPC_URL",
            next_step="give an https:// address, or a node on this machine",
        )
    if settings.log_level == "DEBUG":
        raise SettingsError(
            "DEBUG is for development", variable="ASSENT_LOG_LEVEL", next_step="set INFO or above"
        )
