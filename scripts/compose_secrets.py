"""Makes the passwords that docker-compose.yml hands to its services, one file per database role.

    python3 scripts/compose_secrets.py [FOLDER]    # ./secrets by default; what exists stays

The folder is its owner's alone. The files in it can be read by anyone who gets past it, since
containers, which mount them one by one, run as users of their own.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("superuser", "exchange", "keys", "queue")


def make(folder: Path) -> list[Path]:
    """Make the missing files; returns those that were made."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = []
    for role in ROLES:
        path = folder / f"{role}_password"
        if path.exists():
            continue
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        path.chmod(0o444)
        made.append(path)
    return made


def main(arguments: list[str]) -> int:
    """Make them, and say which."""
    made = make(Path(arguments[0]) if arguments else ROOT / "secrets")
    for path in made:
        print(f"made {path}")
    if not made:
        print("all of them are there already")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
