from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from infra.local.ports import Port, free, owner, taken

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_named_with_purpose_setting_and_owner(listener: int) -> None:
    (problem,) = taken([Port(HOST, listener, "the tracking API", "VEILSTREAM_COLLECTOR_PORT")])
    assert f"port {listener}" in problem
    assert "the tracking API" in problem
    assert "VEILSTREAM_COLLECTOR_PORT" in problem
    assert f"pid {os.getpid()}" in problem


def test_a_port_shared_with_so_reuseport_is_taken_too() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((HOST, 0))
        server.listen()
        assert taken([Port(HOST, server.getsockname()[1], "x", "X")])


def test_a_port_that_was_closed_a_moment_ago_is_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        number = server.getsockname()[1]
        client = socket.create_connection((HOST, number))
        accepted, _ = server.accept()
        accepted.close()  # this side keeps the port in TIME_WAIT
        client.close()
    assert taken([Port(HOST, number, "x", "X")]) == []


def test_one_number_for_two_of_ours_is_a_problem() -> None:
    (number,) = free(1)
    (problem,) = taken([Port(HOST, number, "one", "FIRST"), Port(HOST, number, "two", "SECOND")])
    assert "FIRST" in problem
    assert "SECOND" in problem


def test_an_address_that_is_not_ours_is_named() -> None:
    (problem,) = taken([Port("192.0.2.1", 8080, "the tracking API", "VEILSTREAM_COLLECTOR_PORT")])
    assert "192.0.2.1" in problem


def test_free_ports_differ_and_are_free() -> None:
    numbers = free(20)
    assert len(set(numbers)) == 20
    assert taken(Port(HOST, number, "x", "X") for number in numbers) == []


def test_the_owner_of_a_free_port_is_nobody_we_know() -> None:
    (number,) = free(1)
    assert owner(number) == "another program"
