"""What is asked on behalf of others: where it may go is decided by the address that would be connected to."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trustme

from infra.service.destinations import Address, Refused, destination, public
from infra.service.outbound import (
    BadAnswer,
    Cancelled,
    NoAnswer,
    NotAllowed,
    Outbound,
    OutboundError,
    TooLarge,
    TooSlow,
    addresses,
)
from infra.service.settings import Settings
from tests.web import Handle, Server, answered, served

PORTS = "80,443,8080"
# What names resolve to that an attacker may have made; everything else is resolved by the system.
NAMES = {
    "inner.example": ["10.1.2.3"],
    "loop.example": ["127.0.0.1"],
    "loop6.example": ["::1"],
    "meta.example": ["169.254.169.254"],
    "meta6.example": ["fd00:ec2::254"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "both.example": ["192.168.1.1", "fe80::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "shared.example": ["100.64.1.1"],
    "xn--bcher-kva.example": ["172.20.0.5"],
    "a.b.c.127.0.0.1.example": ["127.0.0.1"],
}
# URL -> the address that it would be connected to; None: refused before there is one.
HOSTILE: dict[str, str | None] = {
    # loopback, in all spellings that the system understands
    "http://127.0.0.1/": "127.0.0.1",
    "http://127.0.0.1:8080/a?b=c": "127.0.0.1",
    "http://127.1/": "127.0.0.1",
    "http://127.0.1/": "127.0.0.1",
    "http://127.255.255.254/": "127.255.255.254",
    "http://2130706433/": "127.0.0.1",
    "http://017700000001/": "127.0.0.1",
    "http://0x7f000001/": "127.0.0.1",
    "http://0x7F.1/": "127.0.0.1",
    "http://0177.0.0.1/": "127.0.0.1",
    "http://0x7f.0.0.0x1/": "127.0.0.1",
    "http://0177.0x0.0.1/": "127.0.0.1",
    "http://127.0.0.1./": "127.0.0.1",
    "http://2130706433./": "127.0.0.1",
    "http://localhost/": "127.0.0.1",
    "http://LOCALHOST./": "127.0.0.1",
    "http://loop.example/": "127.0.0.1",
    "http://a.b.c.127.0.0.1.example/": "127.0.0.1",
    "http://１２７.０.０.１/": "127.0.0.1",
    "http://127。0。0。1/": "127.0.0.1",
    "http://①②⑦.⓪.⓪.①/": "127.0.0.1",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/": "127.0.0.1",
    "http://ＬＯＣＡＬＨＯＳＴ/": "127.0.0.1",
    "http://[::1]/": "::1",
    "http://[0:0:0:0:0:0:0:1]/": "::1",
    "http://[0000::0001]:8080/": "::1",
    "http://loop6.example/": "::1",
    # this network, unspecified, broadcast
    "http://0/": "0.0.0.0",
    "http://0.0.0.0/": "0.0.0.0",
    "http://0x0/": "0.0.0.0",
    "http://0.1.2.3/": "0.1.2.3",
    "http://[::]/": "::",
    "http://255.255.255.255/": "255.255.255.255",
    "http://4294967295/": "255.255.255.255",
    # private, shared, link-local, unique local
    "http://10.0.0.1/": "10.0.0.1",
    "http://167772161/": "10.0.0.1",
    "http://012.0.0.1/": "10.0.0.1",
    "http://172.16.0.1/": "172.16.0.1",
    "http://172.31.255.255/": "172.31.255.255",
    "http://192.168.0.1/": "192.168.0.1",
    "http://0xc0a80001/": "192.168.0.1",
    "http://192.168.257/": "192.168.1.1",
    "http://inner.example/": "10.1.2.3",
    "http://bücher.example/": "172.20.0.5",
    "http://100.64.0.1/": "100.64.0.1",
    "http://100.127.255.255/": "100.127.255.255",
    "http://shared.example/": "100.64.1.1",
    "http://169.254.0.1/": "169.254.0.1",
    "http://[fe80::1]/": "fe80::1",
    "http://[febf::1]/": "febf::1",
    "http://[fec0::1]/": "fec0::1",
    "http://[fc00::1]/": "fc00::1",
    "http://[fdff:ffff::1]/": "fdff:ffff::1",
    # metadata of clouds
    "http://169.254.169.254/latest/meta-data/": "169.254.169.254",
    "http://2852039166/": "169.254.169.254",
    "http://0xa9fea9fe/": "169.254.169.254",
    "http://0251.0376.0251.0376/": "169.254.169.254",
    "http://metadata.google.internal/": "169.254.169.254",
    "http://meta.example/": "169.254.169.254",
    "http://meta6.example/": "fd00:ec2::254",
    "http://[fd00:ec2::254]/": "fd00:ec2::254",
    "http://168.63.129.16/": "168.63.129.16",
    "http://100.100.100.200/": "100.100.100.200",
    "http://192.0.0.192/": "192.0.0.192",
    # IPv4 inside IPv6: mapped, compatible, translated (NAT64), 6to4, Teredo
    "http://[::ffff:127.0.0.1]/": "::ffff:127.0.0.1",
    "http://[::ffff:7f00:1]/": "::ffff:127.0.0.1",
    "http://[::ffff:a9fe:a9fe]/": "::ffff:169.254.169.254",
    "http://[0:0:0:0:0:ffff:10.0.0.1]/": "::ffff:10.0.0.1",
    "http://mapped.example/": "::ffff:10.0.0.1",
    "http://[::127.0.0.1]/": "::127.0.0.1",
    "http://[::ffff:0:127.0.0.1]/": "::ffff:0:7f00:1",
    "http://[64:ff9b::127.0.0.1]/": "64:ff9b::7f00:1",
    "http://[64:ff9b::a9fe:a9fe]/": "64:ff9b::a9fe:a9fe",
    "http://[64:ff9b:1::10.0.0.1]/": "64:ff9b:1::a00:1",
    "http://[2002:7f00:1::]/": "2002:7f00:1::",
    "http://[2002:a9fe:a9fe::1]/": "2002:a9fe:a9fe::1",
    "http://[2002:808:808::1]/": "2002:808:808::1",
    "http://[2001:0:7f00:1::]/": "2001:0:7f00:1::",
    "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/": "2001:0:4136:e378:8000:63bf:80ff:fffe",
    # several addresses, none of which is public
    "http://both.example/": "192.168.1.1",
    # multicast, reserved, documentation, benchmarking
    "http://224.0.0.1/": "224.0.0.1",
    "http://239.255.255.250/": "239.255.255.250",
    "http://240.0.0.1/": "240.0.0.1",
    "http://192.0.2.1/": "192.0.2.1",
    "http://198.51.100.1/": "198.51.100.1",
    "http://203.0.113.1/": "203.0.113.1",
    "http://198.18.0.1/": "198.18.0.1",
    "http://192.88.99.1/": "192.88.99.1",
    "http://[ff02::1]/": "ff02::1",
    "http://[2001:db8::1]/": "2001:db8::1",
    "http://[3fff::1]/": "3fff::1",
    "http://[100::1]/": "100::1",
    "http://[5f00::1]/": "5f00::1",
    "http://[4000::1]/": "4000::1",
    # what the text alone forbids
    "http://user@8.8.8.8/": None,
    "http://user:secret@8.8.8.8/": None,
    "http://8.8.8.8:80@127.0.0.1/": None,
    "http://8.8.8.8%40127.0.0.1/": None,
    "http://8.8.8.8:22/": None,
    "http://8.8.8.8:6379/": None,
    "http://8.8.8.8:0/": None,
    "http://8.8.8.8:65536/": None,
    "http://8.8.8.8:080x/": None,
    "http://8.8.8.8\\@127.0.0.1/": None,
    "http://8.8.8.8\t/": None,
    "http://127.0.0.1\r\nHost:x/": None,
    "http://8.8.8.8 /": None,
    " http://8.8.8.8/": None,
    "http://\ud800.example/": None,
    "http://[fe80::1%25eth0]/": None,
    "http://[::1/": None,
    "http://[v1.x]/": None,
    "http://%31%32%37.0.0.1/": None,
    "http://exa mple/": None,
    "http://-a.example/": None,
    "http://a..b/": None,
    "http://*.example/": None,
    f"http://{'a' * 64}.example/": None,
    f"http://{'a.' * 127}example/": None,
    f"http://a.example/{'x' * 5000}": None,
    "http:///x": None,
    "http:127.0.0.1": None,
    "//127.0.0.1/": None,
    "127.0.0.1": None,
    "": None,
    "file:///etc/passwd": None,
    "ftp://8.8.8.8/": None,
    "gopher://8.8.8.8:80/": None,
    "data:video/mp4;base64,AAAA": None,
    "jar:http://8.8.8.8/": None,
    "unix:/var/run/docker.sock": None,
    "javascript:alert(1)": None,
    "httpS+unix://x/": None,
}


def settings(tmp_path: Path, **overrides: Any) -> Settings:
    values = {"outbound_schemes": "http,https", "outbound_ports": PORTS, "outbound_redirects": 3, **overrides}
    return Settings(state=tmp_path, **values)


def resolve(host: str, port: int) -> list[str]:
    return NAMES.get(host) or addresses(host, port)


def fetch(outbound: Outbound, url: str, **limits: Any) -> bytes:
    into = io.BytesIO()
    outbound.download(url, into, **{"largest": 1 << 20, "seconds": 20.0, "idle": 10.0, **limits})
    return into.getvalue()


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: object) -> None:
        raise AssertionError("it has connected")

    monkeypatch.setattr(socket, "create_connection", create)


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_urls(url: str, tmp_path: Path) -> None:
    """Refused, by the address where there is one, and without a connection."""
    judged: list[Address] = []

    def may(address: Address) -> bool:
        judged.append(address)
        return public(address)

    with pytest.raises(NotAllowed) as caught:
        fetch(Outbound(settings(tmp_path), may=may, resolve=resolve), url)
    wanted = HOSTILE[url]
    if wanted is None:
        assert judged == []
    else:
        assert judged[0] == ip_address(wanted)
    for part in ("127.0.0.1", "secret", "example", "8.8.8.8"):
        assert part not in str(caught.value)


def test_there_are_many_of_them() -> None:
    assert len([url for url, address in HOSTILE.items() if address is not None]) >= 60


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize("url", [url for url, address in HOSTILE.items() if address is not None])
def test_what_the_text_tells_is_refused_before_anything_is_asked(url: str, tmp_path: Path) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError("it has asked for a name")

    outbound = Outbound(settings(tmp_path), resolve=never)
    host = destination(url, ("http",), (80, 8080)).host
    if host in NAMES or host == "localhost":
        outbound.check(url)  # a name; only its addresses tell
    else:
        with pytest.raises(NotAllowed):
            outbound.check(url)


@pytest.mark.parametrize(
    "text",
    [
        *("8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
        *("128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255"),
        *("192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15"),
        *("2606:4700::1111", "2a00:1450::1", "2001:4860::1", "2400::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    ],
)
def test_public_addresses_are_taken(text: str) -> None:
    assert public(ip_address(text))


def test_the_rule_forbids_all_that_python_knows_as_inner() -> None:
    """Held against the standard library's own tables, around every border of theirs."""
    import ipaddress

    for networks, bits in ((ipaddress._IPv4Constants, 32), (ipaddress._IPv6Constants, 128)):  # type: ignore[attr-defined]
        for network in networks._private_networks:
            for number in (int(network.network_address), int(network.broadcast_address)):
                address = ip_address(number.to_bytes(bits // 8, "big"))
                assert not public(address), address


def test_urls_taken_apart() -> None:
    found = destination("HTTPS://Bücher.Example.:8443/ä b?q=ü&t=%2F#frag".replace(" ", "%20"), ("https",), (8443,))
    assert (found.host, found.port, found.target) == ("xn--bcher-kva.example", 8443, "/%C3%A4%20b?q=%C3%BC&t=%2F")
    assert found.authority == "xn--bcher-kva.example:8443"
    assert destination("https://[2606:4700::1]", ("https",), (443,)).authority == "[2606:4700::1]"
    assert destination("https://h", ("https",), (443,)).target == "/"
    with pytest.raises(Refused, match="https://"):
        destination("http://h/", ("https",), (80, 443))


# Against servers on this machine: only the rule that is injected lets loopback through.


def local(address: Address) -> bool:
    return str(address) == "127.0.0.1"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Outbound]:
    def make_(*servers: Server, **given: Any) -> Outbound:
        ports = ",".join(str(server.port) for server in servers)
        overrides = {name: given.pop(name) for name in list(given) if name.startswith("outbound_")}
        return Outbound(settings(tmp_path, outbound_ports=ports, **overrides), **{"may": local, **given})

    return make_


def test_a_file_comes_and_nothing_of_ours_goes(
    make: Callable[..., Outbound], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(answered(b"proxied")) as proxy, served(answered(b"\x00video" * 1000, Set_Cookie="a=b")) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login jane password secret\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        outbound = make(server)
        for _ in range(2):
            assert fetch(outbound, f"http://127.0.0.1:{server.port}/a?b=c") == b"\x00video" * 1000
        assert proxy.connections == 0
        head = server.requests[1].decode()
    assert head.splitlines()[0] == "GET /a?b=c HTTP/1.1"
    names = {line.partition(":")[0].lower() for line in head.splitlines()[1:] if line}
    assert names == {"host", "user-agent", "connection", "accept", "accept-encoding"}


def test_the_default_lets_no_loopback_through(make: Callable[..., Outbound]) -> None:
    with served(answered(b"x")) as server:
        with pytest.raises(NotAllowed):
            fetch(make(server, may=public), f"http://127.0.0.1:{server.port}/")
        assert server.connections == 0


def test_a_name_that_changes_changes_nothing(make: Callable[..., Outbound]) -> None:
    """DNS rebinding: the second answer would be another address; and both at once."""
    with served(answered(b"right")) as right, served(answered(b"wrong"), "127.0.0.2", right.port) as wrong:
        asked: list[str] = []

        def changing(host: str, _port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) % 2 else ["127.0.0.2"]

        outbound = make(right, resolve=changing)
        url = f"http://changes.example:{right.port}/"
        assert fetch(outbound, url) == b"right"
        assert asked == ["changes.example"]  # once, so the address that was checked is that of the connection
        assert b"Host: changes.example" in right.requests[0]
        with pytest.raises(NotAllowed):
            fetch(outbound, url)
        both = make(right, resolve=lambda *_: ["127.0.0.2", "127.0.0.1"])
        assert fetch(both, url) == b"right"
        assert wrong.connections == 0


def test_a_connection_that_went_elsewhere_is_refused(
    make: Callable[..., Outbound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if something below had sent it on."""
    with served(answered(b"x"), "127.0.0.2") as server:
        create = socket.create_connection
        monkeypatch.setattr(socket, "create_connection", lambda place, wait: create(("127.0.0.2", place[1]), wait))
        with pytest.raises(NotAllowed, match="another address"):
            fetch(make(server), f"http://127.0.0.1:{server.port}/")


def test_redirects(make: Callable[..., Outbound]) -> None:
    def handle(connection: socket.socket, request: bytes) -> None:
        path = request.split()[1].decode()
        count = int(path.removeprefix("/").partition("?")[0])
        status = (301, 302, 303, 307, 308)[count % 5]
        if count:
            answered(status=f"{status} Moved", Location=f"/{count - 1}?x=y", Set_Cookie="a=b")(connection, request)
        else:
            answered(b"found")(connection, request)

    with served(handle) as server:
        outbound = make(server)
        base = f"http://127.0.0.1:{server.port}"
        for count in range(4):
            assert fetch(outbound, f"{base}/{count}") == b"found"
        assert b"ookie" not in b"".join(server.requests)
        assert b"eferer" not in b"".join(server.requests)
        before = server.connections
        with pytest.raises(BadAnswer, match="more than 3 redirects"):
            fetch(outbound, f"{base}/4")
        assert server.connections == before + 4


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "//127.0.0.2:{port}/",
        "http://2130706434:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://user:pw@127.0.0.1:{port}/",
        "http://127.0.0.1:1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "http://[::1",
        "http://inner.example:{port}/",
        "\thttp://127.0.0.2:{port}/",
    ],
)
def test_a_redirect_to_where_nothing_may_go(location: str, make: Callable[..., Outbound]) -> None:
    where: list[str] = []

    def handle(connection: socket.socket, request: bytes) -> None:
        answered(status="302 Found", Location=where[0])(connection, request)

    with served(handle) as server, served(answered(b"secret"), "127.0.0.2", server.port) as inner:
        where.append(location.format(port=server.port))
        with pytest.raises(NotAllowed):
            fetch(make(server, resolve=resolve), f"http://127.0.0.1:{server.port}/")
        assert inner.connections == 0
        assert server.connections == 1


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("video.example").configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_is_with_the_name(make: Callable[..., Outbound], authority: trustme.CA, certified: ssl.SSLContext) -> None:
    """The connection goes to an address, the certificate and its indication are those of the name."""
    names: list[str | None] = []
    certified.sni_callback = lambda _socket, name, _context: names.append(name)
    body = b"0123456789" * 100_000
    with served(answered(body), secured=certified) as server:

        def get(name: str, trust: ssl.SSLContext) -> bytes:
            outbound = make(server, resolve=lambda *_: ["127.0.0.1"], trust=trust)
            return fetch(outbound, f"https://{name}:{server.port}/")

        assert get("video.example", trusting(authority)) == body
        assert get("VIDEO.example.", trusting(authority)) == body
        assert names == ["video.example"] * 2
        for name, trust in (("other.example", trusting(authority)), ("video.example", ssl.create_default_context())):
            with pytest.raises(NoAnswer, match="certificate"):
                get(name, trust)
        assert server.connections == 2


def test_no_way_down_from_https(
    make: Callable[..., Outbound], authority: trustme.CA, certified: ssl.SSLContext
) -> None:
    with served(answered(b"x")) as plain:
        down = answered(status="302 Found", Location=f"http://127.0.0.1:{plain.port}/")
        with served(down, secured=certified) as server:
            outbound = make(server, plain, resolve=lambda *_: ["127.0.0.1"], trust=trusting(authority))
            with pytest.raises(NotAllowed, match="https to http"):
                fetch(outbound, f"https://video.example:{server.port}/")
        assert plain.connections == 0


def trickle(head: bytes, ended: threading.Event) -> Handle:
    """Sends a head, then a byte now and then, for ever."""

    def handle(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head)
        while not ended.wait(0.05):
            connection.sendall(b"x")

    return handle


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "limits", "error"),
    [
        (OK + b"Content-Length: 1000000\r\n\r\n", {"seconds": 0.8}, TooSlow),  # a body that trickles
        (OK + b"X: ", {"seconds": 0.8}, TooSlow),  # a head that trickles
        (b"", {"seconds": 0.8}, TooSlow),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", {"seconds": 0.8}, TooSlow),
        (OK + b"\r\n", {"largest": 5}, TooLarge),  # without a length
        (OK + b"Content-Length: 1000000\r\n\r\n", {"largest": 5}, TooLarge),  # says so itself
    ],
)
def test_what_does_not_end(head: bytes, limits: dict[str, Any], error: type[OutboundError], make: Any) -> None:
    ended = threading.Event()
    with served(trickle(head, ended)) as server:
        with pytest.raises(error):
            fetch(make(server), f"http://127.0.0.1:{server.port}/", **limits)
        ended.set()


def test_silence_and_giving_up(make: Callable[..., Outbound], certified: ssl.SSLContext) -> None:
    ended = threading.Event()

    def silent(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(OK + b"Content-Length: 5\r\n\r\nx")
        ended.wait()

    with served(silent) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with pytest.raises(TooSlow, match="nothing came"):
            fetch(make(server), url, idle=0.5)
        with pytest.raises(Cancelled):
            fetch(make(server), url, cancelled=lambda: server.connections == 2)
        ended.set()
    # One who accepts the connection and says nothing, not even of TLS; and a resolver that hangs.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        place = Server("127.0.0.1", port)
        with pytest.raises(TooSlow):
            fetch(make(place), f"https://127.0.0.1:{port}/", seconds=0.5)
        with pytest.raises(NoAnswer, match="not resolved in time"):
            fetch(make(place, resolve=lambda *_: time.sleep(5)), f"https://name.example:{port}/", seconds=0.5)


@pytest.mark.parametrize(
    ("handle", "error", "match"),
    [
        (answered(b"x", "404 Not Found"), BadAnswer, "404"),
        (answered(b"x", "206 Partial Content"), BadAnswer, "206"),
        (answered(b"", "204 No Content"), BadAnswer, "204"),
        (answered(b"x", "302 Found"), BadAnswer, "302"),  # to nowhere
        (answered(b"x", "401 Unauthorized"), BadAnswer, "401"),
        (answered(b"x", Content_Encoding="gzip"), BadAnswer, "compressed"),
        (answered(b"x", "503 Away"), NoAnswer, "503"),
        (answered(b"x", "429 Too Many"), NoAnswer, "429"),
        (answered(b"xyz", Content_Length="10"), NoAnswer, "breaks off"),
        (answered(b"5\r\nabc", Transfer_Encoding="chunked"), NoAnswer, "breaks off"),
        (answered(b"x", Content_Length="-1"), NoAnswer, "not HTTP"),
        (answered(b"x", A="b" * 1_000_000), NoAnswer, "not HTTP"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n\r\n"), NoAnswer, "not HTTP"),
        (lambda connection, _: None, NoAnswer, "."),
    ],
)
def test_answers_that_are_no_file(handle: Handle, error: type[OutboundError], match: str, make: Any) -> None:
    with served(handle) as server, pytest.raises(error, match=match):
        fetch(make(server), f"http://127.0.0.1:{server.port}/")


def test_chunks_and_bodies_that_end_with_the_connection(make: Callable[..., Outbound]) -> None:
    with served(answered(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Transfer_Encoding="chunked")) as server:
        assert fetch(make(server), f"http://127.0.0.1:{server.port}/") == b"abcde"
    with served(lambda connection, _: connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nabc")) as server:
        assert fetch(make(server), f"http://127.0.0.1:{server.port}/") == b"abc"


def test_nobody_there(make: Callable[..., Outbound]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NoAnswer, match="cannot be reached"):
        fetch(make(Server("127.0.0.1", port)), f"http://127.0.0.1:{port}/")
    with pytest.raises(NoAnswer, match="not known"):
        fetch(make(Server("127.0.0.1", port)), f"http://none.invalid:{port}/")
    # Of several addresses, the next one is tried.
    with served(answered(b"x"), "127.0.0.2") as server:
        outbound = make(server, may=lambda _: True, resolve=lambda *_: ["127.0.0.1", "127.0.0.2"])
        assert fetch(outbound, f"http://name.example:{server.port}/") == b"x"


def test_a_body_is_posted_and_no_redirect_followed(make: Callable[..., Outbound]) -> None:
    with served(answered(status="307 Moved", Location="/other")) as server:
        outbound = make(server)
        url = f"http://127.0.0.1:{server.port}/hook?t=1"
        assert outbound.post(url, {"Content-Type": "application/json", "X-A": "b"}, b'{"a": 1}', seconds=5.0) == 307
        (request,) = server.requests
    assert request.startswith(b"POST /hook?t=1 HTTP/1.1\r\n")
    assert b"X-A: b\r\n" in request
    assert request.endswith(b'\r\n\r\n{"a": 1}')
    with pytest.raises(NotAllowed):
        make(Server("", 1), may=public).post("http://127.0.0.1:1/", {}, b"x", seconds=1.0)
