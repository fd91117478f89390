"""Secrets at rest: encrypted with a key derived from SECRET_KEY, shown as dots with the last four characters."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from bot.errors import ConfigError


def encrypt(secret: str, secret_key: str) -> str:
    """secret, encrypted and authenticated; text that may be stored."""
    return _fernet(secret_key).encrypt(secret.encode()).decode()


def decrypt(stored: str, secret_key: str) -> str:
    """The secret that `encrypt` was given. Raises ConfigError when SECRET_KEY is not the one it was stored under."""
    try:
        return _fernet(secret_key).decrypt(stored.encode()).decode()
    except InvalidToken as error:
        raise ConfigError("SECRET_KEY is not the one that the stored secrets were encrypted with. Set the old one.") from error


def mask(secret: str | None) -> str:
    """`••••` and the last four characters; nothing of a short one."""
    if not secret:
        return ""
    return "••••" + (secret[-4:] if len(secret) >= 12 else "")


def resolve(reference: str) -> tuple[str, str | None]:
    """(secret, source) of what a configuration file says: `env:NAME`, `file:PATH`, or the secret itself (source None).

    Raises ConfigError that names the variable or file when there is nothing there.
    """
    if reference.startswith("env:"):
        name = reference[4:]
        if not os.environ.get(name):
            raise ConfigError(f"The environment variable {name} is empty. Set it, then apply again.")
        return os.environ[name], reference
    if reference.startswith("file:"):
        path = Path(reference[5:]).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip(), reference
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The file {path} cannot be read. Mend {reference}, then apply again.") from error
    return reference, None


def _fernet(secret_key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"qingniao stored secrets\0" + secret_key.encode()).digest()))
