"""The environment, read once into one frozen value that is passed down. Nothing deeper looks at the environment."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bot.errors import ConfigError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class Settings:
    """Where things are and how much of them. Paths are absolute; `milvus_uri` and `redis_url` are ready to use."""

    host: str
    port: int
    public_url: str
    data_dir: Path
    database_url: str
    redis_url: str
    redis_embedded: bool
    milvus_uri: str
    milvus_embedded: bool
    secret_key: str = field(repr=False)
    milvus_token: str = field(default="", repr=False)
    admin_user: str = "admin"
    admin_password: str | None = field(default=None, repr=False)
    reply_threads: int = 128
    allow_private_urls: tuple[str, ...] = ()
    log_level: str = "INFO"
    log_format: str = "text"
    otlp_endpoint: str | None = None


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings from the environment. Makes DATA_DIR and the secret key on first use.

    Raises ConfigError that names the variable and says what to do.
    """
    host = environ.get("HOST") or "127.0.0.1"
    port = _int(environ, "PORT", 8000, 1, 65535)
    data_dir = _data_dir(environ.get("DATA_DIR") or "var")
    milvus_uri = _url(environ, "MILVUS_URI", ("http", "https", "tcp"))
    redis_url = _url(environ, "REDIS_URL", ("redis", "rediss", "unix", "redis+sentinel"))
    return Settings(
        host=host,
        port=port,
        public_url=(_url(environ, "PUBLIC_URL", ("http", "https")) or f"http://{_for_url(host)}:{port}").rstrip("/"),
        data_dir=data_dir,
        database_url=_database_url(environ, data_dir),
        redis_url=redis_url or f"unix://{redis_socket(data_dir)}",
        redis_embedded=not redis_url,
        milvus_uri=milvus_uri or f"http://127.0.0.1:{_kept_port(milvus_port_file(data_dir))}",
        milvus_embedded=not milvus_uri,
        milvus_token=environ.get("MILVUS_TOKEN", ""),
        secret_key=environ.get("SECRET_KEY") or _kept_secret(data_dir / "secret_key"),
        admin_user=environ.get("ADMIN_USER") or "admin",
        admin_password=environ.get("ADMIN_PASSWORD") or None,
        reply_threads=_int(environ, "REPLY_THREADS", 128, 1, 1024),
        allow_private_urls=_hosts(environ.get("ALLOW_PRIVATE_URLS", "")),
        log_level=_choice(environ, "LOG_LEVEL", "INFO", LOG_LEVELS),
        log_format=_choice(environ, "LOG_FORMAT", "text", ("text", "json")),
        otlp_endpoint=_url(environ, "OTEL_EXPORTER_OTLP_ENDPOINT", ("http", "https")),
    )


def redis_socket(data_dir: Path) -> Path:
    """The embedded Redis server's socket; in a short folder where DATA_DIR is too deep.

    Source: unix(7), sun_path holds 108 bytes.
    """
    path = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(path)) < 100:
        return path
    import hashlib
    import tempfile

    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"qingniao-{os.getuid()}-{name}" / "redis.sock"


def milvus_port_file(data_dir: Path) -> Path:
    """Where the embedded Milvus Lite server's port is written at each start."""
    return data_dir / "milvus" / "port"


def _kept_port(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 19530


def _for_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # listens everywhere; a link needs one address
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _data_dir(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"DATA_DIR={text} cannot be made ({error.strerror}). Set DATA_DIR to a folder that you may write to."
        ) from error
    if not os.access(path, os.W_OK):
        raise ConfigError(f"DATA_DIR={text} may not be written to. Set DATA_DIR to a folder that you may write to.")
    return path


def _database_url(environ: Mapping[str, str], data_dir: Path) -> str:
    url = environ.get("DATABASE_URL")
    if not url:
        return f"sqlite:///{data_dir / 'qingniao.db'}"
    if url.startswith(("postgres://", "postgresql://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ConfigError("DATABASE_URL must start with postgresql+psycopg:// or sqlite:///. Mend it, or leave it out.")
    return url


def _kept_secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass  # the first start: make it below
    secret = secrets.token_urlsafe(48)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    try:
        os.link(temporary, path)  # the first of two processes wins, whole or not at all
    except FileExistsError:
        secret = path.read_text().strip()
    finally:
        temporary.unlink()
    return secret


def _int(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name)
    if not text:
        return min(default, high)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ConfigError(f"{name}={text} is not a number from {low} to {high}. Mend it, or leave it out.")
    return int(text)


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    text = environ.get(name) or default
    for choice in choices:
        if text.casefold() == choice.casefold():
            return choice
    raise ConfigError(f"{name}={text} is not known. Choose one of: {', '.join(choices)}.")


def _url(environ: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str | None:
    text = environ.get(name)
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in schemes or not (parts.netloc or parts.path):
        raise ConfigError(f"{name} must be a URL that starts with {' or '.join(s + '://' for s in schemes)}.")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip() for part in text.split(",") if part.strip())
    for host in hosts:
        if "/" in host:
            try:
                ipaddress.ip_network(host, strict=False)
            except ValueError as error:
                raise ConfigError(f"ALLOW_PRIVATE_URLS: {host} is neither a host nor a network like 10.0.0.0/8.") from error
    return hosts
