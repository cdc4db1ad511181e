"""Reading from a socket, with the other end in the test's hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from infra.local.front.wire import BodyEndedEarly, Connection, Gone, Head, Limits, Malformed, TooSlow, parameters

LIMITS = Limits(head_bytes=8192, idle=30, head=30, stall=30, body=30)
QUICK = Limits(head_bytes=8192, idle=0.05, head=0.05, stall=0.05, body=0.2)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    yield client, server
    for one in (client, server, listener):
        one.close()


Pair = tuple[socket.socket, socket.socket]


def head_of(connection: Connection) -> Head:
    found = connection.head()
    assert found is not None
    return found


def test_a_head_in_pieces(pair: Pair) -> None:
    client, server = pair
    connection = Connection(server, LIMITS)
    for byte in b"POST /a?b=c%20d HTTP/1.1\r\nContent-Length: 3\r\nX-A:  b \r\nx-a: c\r\n\r\nabcGET / HTTP/1.0\r\n\r\n":
        client.send(bytes([byte]))
    head = head_of(connection)
    assert (head.method, head.path, head.query, head.headers["x-a"]) == ("POST", "/a", "b=c%20d", "b, c")
    assert (head.length, head.keep_alive, head.chunked_answer) == (3, True, True)
    assert b"".join(connection.body(head)) == b"abc"
    second = head_of(connection)
    assert (second.method, second.length, second.keep_alive, second.chunked_answer) == ("GET", 0, False, False)
    client.close()
    assert connection.head() is None


def test_a_chunked_body_in_pieces(pair: Pair) -> None:
    client, server = pair
    connection = Connection(server, LIMITS)
    client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    head = head_of(connection)
    client.sendall(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n")
    assert b"".join(connection.body(head)) == b"abc0123456789"


def test_an_interrupted_body_is_not_read_to_its_end(pair: Pair) -> None:
    """Even if all of it comes: a query that was killed while its body came must not run."""
    client, server = pair
    connection = Connection(server, LIMITS)
    client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc")
    body = connection.body(head_of(connection))
    assert next(body) == b"abc"
    connection.interrupt()
    client.sendall(b"def")
    with pytest.raises(BodyEndedEarly):
        list(body)
    connection.send(b"an answer")
    assert client.recv(100) == b"an answer"
    assert connection.head() is None


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc"])
def test_slow_clients(pair: Pair, sent: bytes) -> None:
    client, server = pair
    connection = Connection(server, QUICK)
    client.sendall(sent)

    def read() -> None:
        for _ in connection.body(head_of(connection)):
            pass

    with pytest.raises(TooSlow):
        read()


def test_a_body_that_trickles(pair: Pair) -> None:
    """Each wait is short, all together are too long."""
    client, server = pair
    connection = Connection(server, QUICK)
    client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    head = head_of(connection)
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.005):
            client.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(TooSlow):
        list(connection.body(head))
    ended.set()
    thread.join()


def test_a_client_that_does_not_read(pair: Pair) -> None:
    _, server = pair
    with pytest.raises(Gone):
        Connection(server, QUICK).send(bytes(50_000_000))


def test_an_idle_connection_is_closed_a_busy_one_is_not(pair: Pair) -> None:
    client, server = pair
    connection = Connection(server, LIMITS)
    client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
    head = head_of(connection)
    connection.close_if_idle()
    assert b"".join(connection.body(head)) == b"abc"
    waiting = threading.Thread(target=connection.head)
    waiting.start()
    while not connection.interrupted:
        connection.close_if_idle()
    waiting.join()


@pytest.mark.parametrize("size", [8000, 9000])
def test_the_heads_bound(pair: Pair, size: int) -> None:
    client, server = pair
    connection = Connection(server, LIMITS)
    client.sendall(b"GET / HTTP/1.1\r\nA: " + b"x" * (size - 100) + b"\r\n\r\n")
    if size < LIMITS.head_bytes:
        assert head_of(connection).method == "GET"
        return
    with pytest.raises(Malformed) as caught:
        connection.head()
    assert caught.value.status == 431


def test_parameters() -> None:
    assert parameters("a=1&b=x%20y+z&a=2&c&=d&e=%C3%A9") == {"a": "2", "b": "x y z", "c": "", "e": "é"}
    assert parameters("") == {}
    with pytest.raises(Malformed):
        parameters("a=%ff")
