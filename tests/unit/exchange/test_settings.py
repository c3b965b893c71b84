from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from exchange.errors import SettingsError
from exchange.settings import described, environment_of, load_settings

PRODUCTION = {
    "ASSENT_ENVIRONMENT": "production",
    "ASSENT_LEDGER__RPC_URL": "https://node.example",
    "ASSENT_LEDGER__FINALITY": "finalized",
}


def refused(environ: dict[str, str]) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert caught.value.next_step
    assert caught.value.variable in str(caught.value)
    return caught.value


def test_without_any_setting_everything_lies_in_one_folder(tmp_path: Path) -> None:
    settings = load_settings({"ASSENT_DATA_DIR": str(tmp_path)})
    assert settings.environment == "development"
    assert settings.database_url == f"sqlite:///{tmp_path / 'store.sqlite'}"
    assert settings.keys_database_url == f"sqlite:///{tmp_path / 'keys.sqlite'}"
    assert settings.vault_url == (tmp_path / "vault").as_uri()
    assert settings.base_url == "http://127.0.0.1:8420"
    assert settings.ledger.stale_seconds == 60
    assert settings.keys_socket == tmp_path / "run" / "keys.sock"


def test_nested_names_and_types_are_read() -> None:
    settings = load_settings(
        {"ASSENT_LEDGER__STALE_SECONDS": "2.5", "ASSENT_API__PORT": "0", "OTHER": "x"}
    )
    assert settings.ledger.stale_seconds == 2.5
    assert settings.api.port == 0


def test_only_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_TOKEN_SECONDS", "77")
    assert load_settings({}).token_seconds == 900
    assert load_settings().token_seconds == 77


def test_settings_are_frozen() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError):
        settings.token_seconds = 1  # type: ignore[misc]


def test_another_process_can_be_given_the_same_settings() -> None:
    settings = load_settings({"ASSENT_API__PORT": "1", "ASSENT_LEDGER__RPC_URL": "http://[::1]:1"})
    assert load_settings(environment_of(settings)) == settings


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"ASSENT_API__PROT": "1"}, "ASSENT_API__PROT"),
        ({"ASSENT_DATABSE_URL": "x"}, "ASSENT_DATABSE_URL"),
        ({"ASSENT_API__PORT": "many"}, "ASSENT_API__PORT"),
        ({"ASSENT_ENVIRONMENT": "test"}, "ASSENT_ENVIRONMENT"),
        ({"ASSENT_DATABASE_URL": "mysql://h/d"}, "ASSENT_DATABASE_URL"),
        ({"ASSENT_LEDGER__RPC_URL": "ftp://h"}, "ASSENT_LEDGER__RPC_URL"),
        ({"ASSENT_LEDGER__RPC_URL": "https://node.example"}, "ASSENT_LEDGER__FINALITY"),
        (
            {"ASSENT_DATABASE_URL": "sqlite:////d/a", "ASSENT_KEYS_DATABASE_URL": "sqlite:////d/a"},
            "ASSENT_KEYS_DATABASE_URL",
        ),
        ({"ASSENT_API__TLS_CERT": "/c.pem"}, "ASSENT_API__TLS_KEY"),
        ({"ASSENT_API__TLS_KEY": "/k.pem"}, "ASSENT_API__TLS_CERT"),
        ({"ASSENT_API__HOST": "0.0.0.0"}, "ASSENT_API__TLS_CERT"),
        ({"ASSENT_API__HOST": "exchange.example"}, "ASSENT_API__TLS_CERT"),
    ],
)
def test_a_wrong_setting_is_named_with_the_next_step(
    environ: dict[str, str], variable: str
) -> None:
    assert refused(environ).variable == variable


@pytest.mark.parametrize(
    "more",
    [
        {"ASSENT_API__TLS_CERT": "/c.pem", "ASSENT_API__TLS_KEY": "/k.pem"},
        {"ASSENT_API__TLS_TERMINATED": "true"},
    ],
)
def test_with_tls_others_may_reach_it(more: dict[str, str]) -> None:
    settings = load_settings({"ASSENT_API__HOST": "0.0.0.0", **more})
    assert settings.base_url == "https://0.0.0.0:8420"


def test_production_is_possible() -> None:
    assert load_settings(PRODUCTION).environment == "production"


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        (
            {"ASSENT_LEDGER__RPC_URL": "", "ASSENT_LEDGER__FINALITY": "managed"},
            "ASSENT_LEDGER__FINALITY",
        ),
        ({"ASSENT_LEDGER__RPC_URL": "http://node.example"}, "ASSENT_LEDGER__RPC_URL"),
        ({"ASSENT_API__BASE_URL": "http://exchange.example"}, "ASSENT_API__BASE_URL"),
        ({"ASSENT_LOG_LEVEL": "DEBUG"}, "ASSENT_LOG_LEVEL"),
    ],
)
def test_production_refuses_what_suits_development(changes: dict[str, str], variable: str) -> None:
    assert refused({**PRODUCTION, **changes}).variable == variable


def test_no_secret_shows(tmp_path: Path) -> None:
    url = "postgresql://user:canary-secret@h/d"
    settings = load_settings({"ASSENT_DATABASE_URL": url})
    assert "canary-secret" not in repr(settings)
    assert "canary" not in str(refused({"ASSENT_DATABASE_URL": "canary-secret://h"}))
    assert "canary" not in str(refused({"ASSENT_TOKEN_SECONDS": "canary-secret"}))


def test_every_setting_is_described() -> None:
    rows = described()
    assert len(rows) == len({row[0] for row in rows})
    for variable, kind, _, description in rows:
        assert variable.startswith("ASSENT_")
        assert kind
        assert description.endswith("."), variable
