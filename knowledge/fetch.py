"""One page from the web, for addresses that operators enter and documents name: never from inside the house.

A name is resolved once, every address it has is judged, and the connection goes to the judged address itself, so that a
second answer of the name server changes nothing. Each redirect is judged the same way.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from knowledge.errors import FetchError

MAX_BYTES = 20 * 1024 * 1024
TIMEOUT_S = 30.0  # for everything together
MAX_REDIRECTS = 5
MAX_URL_CHARS = 2000
PORTS = (80, 443)
READ_BYTES = 65_536
# content type → the extension by which the readers know it
TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Page:
    """What an address returned. url: after redirects. name: one by whose extension a reader is found."""

    url: str
    name: str
    blob: bytes


@dataclass(frozen=True)
class Target:
    """Where a request goes: a judged address, and the name under which the server knows itself."""

    parts: SplitResult
    host: str
    port: int
    address: str


def fetch(url: str, allowed: Sequence[str] = (), timeout_s: float = TIMEOUT_S, resolve: Resolve | None = None) -> Page:
    """The page at url. allowed: hosts and networks that may be private and may use any port.

    Raises FetchError that says what is wrong: a private address, an odd port, too slow, too large, a status, a type.
    """
    end = time.monotonic() + timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        target = judge(url, allowed, resolve or _resolve)
        connection = _connect(target, end, timeout_s)
        with closing(connection), closing(_request(connection, target, end, timeout_s)) as response:
            location = response.getheader("Location")
            if response.status in (301, 302, 303, 307, 308) and location:
                url = _joined(url, location)
                continue
            return _page(url, response, target.host, timeout_s)
    raise FetchError("url.redirects", limit=MAX_REDIRECTS)


def judge(url: str, allowed: Sequence[str] = (), resolve: Resolve | None = None) -> Target:
    """Where a request for url may go. Raises FetchError when it may not."""
    parts, host, port = judge_form(url)
    addresses = [ipaddress.ip_address(address.partition("%")[0]) for address in (resolve or _resolve)(host, port)]
    if not addresses:
        raise FetchError("url.unresolvable", permanent=False, host=host)
    trusted = all(_is_listed(host, address, allowed) for address in addresses)
    if not trusted and not all(is_public(address) for address in addresses):
        raise FetchError("url.private", host=host)
    if port not in PORTS and not trusted:
        raise FetchError("url.port", port=port)
    return Target(parts, host, port, str(addresses[0]))


def judge_form(url: str) -> tuple[SplitResult, str, int]:
    """The parts, the host in ASCII and the port of a web address. Raises FetchError for anything else."""
    if len(url) > MAX_URL_CHARS or any(char <= " " or char in "\\\x7f" for char in url):
        raise FetchError("url.bad")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").rstrip(".")
        if ":" not in host:
            host = host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as error:
        raise FetchError("url.bad") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.password is not None:
        raise FetchError("url.bad")
    return parts, host, port


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet, whatever form hides another in it."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = _hidden(address)
        if hidden is not None:
            return is_public(hidden)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _hidden(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside: mapped, compatible, 6to4, Teredo, NAT64. Source: RFC 4291, 3056, 4380, 6052."""
    packed = address.packed
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if packed[:12] == bytes.fromhex("0064ff9b") + bytes(8) or (packed[:12] == bytes(12) and packed[12:] > b"\0\0\0\1"):
        return ipaddress.IPv4Address(packed[12:])
    return None


def _is_listed(host: str, address: Address, allowed: Sequence[str]) -> bool:
    for entry in allowed:
        if entry.casefold() == host.casefold():
            return True
        try:
            if address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue  # a host's name
    return False


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError("url.unresolvable", permanent=False, host=host) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise FetchError("url.bad") from error


def _connect(target: Target, end: float, timeout_s: float) -> http.client.HTTPConnection:
    try:
        raw = socket.create_connection((target.address, target.port), timeout=_left(target.host, end, timeout_s))
    except TimeoutError as error:
        raise FetchError("url.timeout", permanent=False, host=target.host, seconds=round(timeout_s)) from error
    except OSError as error:
        raise FetchError("url.unreachable", permanent=False, host=target.host) from error
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = raw
    if target.parts.scheme == "https":
        try:
            raw.settimeout(_left(target.host, end, timeout_s))
            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)
        except FetchError:
            raw.close()
            raise
        except (OSError, ValueError) as error:
            raw.close()
            raise FetchError("url.unreachable", permanent=False, host=target.host) from error
    return connection


class _InTime(io.RawIOBase):
    """What a socket receives until `end`, then TimeoutError: a socket's own time begins anew with every byte that drips."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock, self._raw, self._end = sock, sock.makefile("rb", buffering=0), end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose head and body must both be there before `end`."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        super().__init__(sock, method="GET")
        self.fp.close()
        self.fp = io.BufferedReader(_InTime(sock, end))


def _request(connection: http.client.HTTPConnection, target: Target, end: float, timeout_s: float) -> http.client.HTTPResponse:
    path = quote(target.parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if target.parts.query:
        path += "?" + quote(target.parts.query, safe="/%:@!$&'()*+,;=~-._?")
    usual = target.port == (443 if target.parts.scheme == "https" else 80)
    name = f"[{target.host}]" if ":" in target.host else target.host
    headers = {
        "Host": name if usual else f"{name}:{target.port}",
        "User-Agent": "Qingniao/0.1 (knowledge import)",
        "Accept": "text/html,text/plain,text/markdown,application/pdf;q=0.9,*/*;q=0.1",
        "Accept-Encoding": "identity",
    }
    try:
        connection.request("GET", path, headers=headers)
        response = _Response(connection.sock, end)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response
    except TimeoutError as error:
        raise FetchError("url.timeout", permanent=False, host=target.host, seconds=round(timeout_s)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError("url.unreachable", permanent=False, host=target.host) from error


def _page(url: str, response: http.client.HTTPResponse, host: str, timeout_s: float) -> Page:
    if response.status != 200:
        permanent = 400 <= response.status < 500 and response.status not in (408, 425, 429)
        raise FetchError("url.status", permanent=permanent, status=response.status)
    kind = response.headers.get_content_type()
    if kind not in TYPES:
        raise FetchError("url.type", type=kind)
    blob = bytearray()
    try:
        if int(response.headers.get("Content-Length") or 0) > MAX_BYTES:
            raise FetchError("url.too_large", limit_mb=MAX_BYTES >> 20)
        for part in _unpacked(response):
            blob += part
            if len(blob) > MAX_BYTES:
                raise FetchError("url.too_large", limit_mb=MAX_BYTES >> 20)
    except TimeoutError as error:
        raise FetchError("url.timeout", permanent=False, host=host, seconds=round(timeout_s)) from error
    except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        raise FetchError("url.unreachable", permanent=False, host=host) from error
    charset = response.headers.get_content_charset()
    return Page(url, "page" + TYPES[kind], _with_charset(bytes(blob), kind, charset))


def _unpacked(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in parts. Some servers pack it although nobody asked; unpacked at most MAX_BYTES at a time."""
    packed = (response.getheader("Content-Encoding") or "identity").lower()
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed in ("gzip", "x-gzip", "deflate") else None
    while True:
        part = response.read1(READ_BYTES)
        if not part:
            return
        yield unpack.decompress(part, MAX_BYTES + 1) if unpack else part


def _with_charset(blob: bytes, kind: str, charset: str | None) -> bytes:
    """The blob as UTF-8 where the server, which goes first, named its encoding and the text is in it."""
    if not charset or not kind.startswith(("text/", "application/xhtml")) or blob.startswith((b"\xef\xbb\xbf", b"\xff\xfe")):
        return blob
    try:
        return b"\xef\xbb\xbf" + blob.decode("gb18030" if charset in ("gb2312", "gbk") else charset).encode("utf-8")
    except (LookupError, ValueError):
        return blob  # it does not fit: the reader finds out


def _left(host: str, end: float, timeout_s: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise FetchError("url.timeout", permanent=False, host=host, seconds=round(timeout_s))
    return left
