"""Secrets that have to be read again, sealed where they lie: what is in the database alone tells nobody.

Fernet (AES-CBC with HMAC-SHA256), by the newest of some keys; any of them opens. A caller's token needs none of this:
of it only a digest is kept. What is sealed here has to be told to others, or signed with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from penstock.errors import PenstockError, SecretUnreadable

_SEALED = "sealed:"
KEY_FILE = "secret.key"
"""In the home folder, where no keys are configured."""


class BadSecretKey(PenstockError):
    """A key is none; the message never holds it."""

    code = "bad_secret_key"


class SecretBox:
    """Seals by the first of some keys, and opens by any."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            fernets = [Fernet(key.strip()) for key in keys]
            self._newest, self._all = fernets[0], MultiFernet(fernets)
        except (ValueError, IndexError):
            raise BadSecretKey(
                "keys of secrets are 32 random bytes each, in URL-safe base64: "
                "`openssl rand -base64 32 | tr '+/' '-_'` makes one"
            ) from None

    def seal(self, secret: str) -> str:
        """Return what may lie in a database."""
        return _SEALED + self._newest.encrypt(secret.encode()).decode()

    def open(self, kept: str) -> str:
        """Return a secret; raises ``SecretUnreadable`` if no key opens it. What was never sealed is as it was."""
        if not kept.startswith(_SEALED):
            return kept
        try:
            return self._all.decrypt(kept.removeprefix(_SEALED)).decode()
        except InvalidToken:
            raise SecretUnreadable(
                "no key of this installation opens the secret: give PENSTOCK_SECRET_KEYS the one that sealed it, "
                "or rotate the secret"
            ) from None

    def is_current(self, kept: str) -> bool:
        """Say whether it is sealed by the newest key."""
        if not kept.startswith(_SEALED):
            return False
        try:
            self._newest.decrypt(kept.removeprefix(_SEALED))
        except InvalidToken:
            return False
        return True


def open_box(keys: Sequence[str], home: Path) -> SecretBox:
    """Return what seals by keys that are configured, or by one in the home folder, made if it is missing."""
    return SecretBox(keys or [_kept_key(home / KEY_FILE)])


def _kept_key(file: Path) -> str:
    """Return the key in a file that only its owner can read; of some processes that make it at once one does."""
    try:
        return file.read_text()
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
    made = file.with_name(f"{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(Fernet.generate_key())
        opened.flush()
        os.fsync(opened.fileno())
    try:
        # A link never replaces what is there already, and never shows half of it.
        os.link(made, file)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return file.read_text()
