"""No address that an operator, a document or a redirect names leads inside the house."""

from __future__ import annotations

import contextlib
import gzip
import ipaddress
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from knowledge.errors import FetchError
from knowledge.fetch import fetch, is_public, judge

PUBLIC = "93.184.215.14"


def fault_of(url: str, *resolved: str, allowed: tuple[str, ...] = ()) -> str:
    with pytest.raises(FetchError) as error:
        judge(url, allowed, (lambda host, port: list(resolved)) if resolved else None)
    return error.value.key


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/",
        "http://0177.0.0.1/", "http://017700000001/", "http://0/", "http://0.0.0.0/", "http://localhost/", "http://LOCALHOST./",
        "http://10.0.0.1/", "http://10.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/", "http://0xa9fea9fe/", "http://2852039166/", "http://100.64.0.1/",
        "http://100.100.100.200/", "http://198.18.0.1/", "http://192.0.2.1/", "http://224.0.0.1/", "http://240.0.0.1/",
        "http://255.255.255.255/", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
        "http://[::ffff:10.0.0.1]/", "http://[::127.0.0.1]/", "http://[fe80::1]/", "http://[fc00::1]/", "http://[fd00:ec2::254]/",
        "http://[fec0::1]/", "http://[ff02::1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2001:db8::1]/",
        "http://[64:ff9b:1::a00:1]/", "http://１２７.０.０.１/", "http://127。0。0。1/", "http://①②⑦.0.0.1/", "https://127.0.0.1:443/",
    ],
)  # fmt: skip
def test_a_private_address_is_refused_in_every_form(url: str) -> None:
    assert fault_of(url) == "url.private"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "javascript:alert(1)",
        "data:text/html,x", "//example.com",
        "example.com", "", "http://", "http:///x", "http://user@example.com/", "http://user:pass@example.com/",
        "http://exa mple.com/",
        "http://example.com:99999/", "http://example.com:x/", "http://example.com\\@127.0.0.1/", "http://example.com/\r\nX: y",
        "http://[::1/", "http://" + "a" * 3000, "http://a..b/",
    ],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url: str) -> None:
    assert fault_of(url, PUBLIC) == "url.bad"


@pytest.mark.parametrize("port", [1, 22, 25, 3306, 6379, 8000, 8080, 9200, 19530, 65535])
def test_a_port_of_other_services_is_refused(port: int) -> None:
    assert fault_of(f"http://example.com:{port}/", PUBLIC) == "url.port"


@pytest.mark.parametrize("hidden", ["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254", "::ffff:192.168.0.1"])
def test_one_private_address_among_those_of_a_name_is_enough(hidden: str) -> None:
    assert fault_of("http://example.com/", PUBLIC, hidden) == "url.private"


def test_a_name_that_nobody_knows_is_said() -> None:
    assert fault_of("http://does-not-exist.invalid/") == "url.unresolvable"


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]  # a name server that changes its mind

    assert judge("https://example.com/a", (), resolve).address == PUBLIC
    assert asked == ["example.com"]


@pytest.mark.parametrize("allowed", ["127.0.0.1", "localhost", "127.0.0.0/8"])
def test_listed_hosts_may_be_private_and_use_any_port(allowed: str) -> None:
    host = "localhost" if allowed == "localhost" else "127.0.0.1"
    target = judge(f"http://{host}:8123/", (allowed, "::1"))
    assert target.port == 8123


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101", "2002:101:101::"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Site(BaseHTTPRequestHandler):
    """A web site with every habit that pages have."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        getattr(self, "do_" + path.strip("/").replace("-", "_"), self.do_missing)()

    def answer(self, body: bytes, status: int = 200, kind: str = "text/html; charset=utf-8", **headers: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body))} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def do_page(self) -> None:
        self.answer("<html><body><p>退款三天到账</p></body></html>".encode())

    def do_old(self) -> None:
        self.answer("<p>退款三天到账</p>".encode("gb18030"), kind="text/html; charset=gb2312")

    def do_packed(self) -> None:
        self.answer(gzip.compress("<p>退款三天到账</p>".encode()), Content_Encoding="gzip")

    def do_bomb(self) -> None:
        self.answer(gzip.compress(bytes(100_000_000)), Content_Encoding="gzip")

    def do_large(self) -> None:
        self.answer(b"", Content_Length=str(1 << 30))

    def do_moved(self) -> None:
        self.answer(b"", 302, Location="/page")

    def do_inside(self) -> None:
        self.answer(b"", 302, Location="http://169.254.169.254/latest/meta-data/")

    def do_to_file(self) -> None:
        self.answer(b"", 301, Location="file:///etc/passwd")

    def do_loop(self) -> None:
        self.answer(b"", 302, Location="/loop")

    def do_program(self) -> None:
        self.answer(b"MZ", kind="application/octet-stream")

    def do_slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"drip ")
                self.wfile.flush()
                time.sleep(0.05)
        self.close_connection = True

    def do_no_number(self) -> None:
        self.answer(b"<p>x</p>", Content_Length="abc")
        self.close_connection = True

    def do_to_nonsense(self) -> None:
        self.answer(b"", 302, Location="http://[bad")

    def do_slow_head(self) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.05)
        self.close_connection = True

    def do_missing(self) -> None:
        self.answer(b"no", 404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["page", "old", "packed", "moved", "page?q=退款&x=1 2".replace(" ", "%20")])
def test_a_page_is_fetched(site: str, path: str) -> None:
    page = fetch(f"{site}/{path}", ("127.0.0.1",))
    assert "退款三天到账" in page.blob.decode("utf-8-sig")
    assert page.name == "page.html"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("inside", "url.private"), ("to-file", "url.bad"), ("loop", "url.redirects"), ("program", "url.type"),
        ("no-number", "url.unreachable"), ("to-nonsense", "url.bad"),
        ("bomb", "url.too_large"), ("large", "url.too_large"), ("nothing", "url.status"),
    ],
)  # fmt: skip
def test_a_page_that_must_not_be_fetched_is_not(site: str, path: str, fault: str) -> None:
    with pytest.raises(FetchError) as error:
        fetch(f"{site}/{path}", ("127.0.0.1",))
    assert error.value.key == fault


@pytest.mark.parametrize("path", ["slow", "slow-head"])
def test_a_page_that_drips_is_left(site: str, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(FetchError) as error:
        fetch(f"{site}/{path}", ("127.0.0.1",), timeout_s=0.4)
    assert error.value.key == "url.timeout"
    assert time.monotonic() - began < 3


def test_a_site_of_our_own_is_refused_unless_it_is_listed(site: str) -> None:
    with pytest.raises(FetchError) as error:
        fetch(f"{site}/page")
    assert error.value.key == "url.private"
