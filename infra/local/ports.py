"""Ports of the local stack: what each is for, who has taken one, and free ones for a stack that runs beside."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

# Below the range that the system hands out for outgoing connections, so that nothing takes one in between.
FREE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Port:
    """A port, what it is for and which setting changes it."""

    host: str
    number: int
    purpose: str
    setting: str


def reachable(host: str) -> str:
    """The address at which something that listens on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def problem(port: Port) -> str:
    """Why the port cannot be listened on, as a sentence that names what has it; "" when it is free."""
    try:
        (family, kind, protocol, _, address) = socket.getaddrinfo(port.host, port.number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)  # a port that another shares by SO_REUSEADDR is found here
    except OSError as error:
        name = f"port {port.number} for {port.purpose}"
        change = f"{port.setting} changes it"
        if error.errno == errno.EADDRINUSE:
            return f"{name} is taken by {owner(port.number)}; {change}"
        return f"{name} on {port.host} cannot be opened: {error.strerror}; {change}"
    return ""


def owner(number: int) -> str:
    """The program that listens on a TCP port, as far as it can be seen."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == number and connection.pid:
            try:
                command = " ".join(psutil.Process(connection.pid).cmdline())[:120]
            except psutil.Error:
                command = ""
            return f"pid {connection.pid}" + (f" ({command})" if command else "")
    return "another program"


def taken(ports: Iterable[Port]) -> list[str]:
    """The problems of all ports; two of ours with one number are a problem too."""
    found, seen = [], dict[tuple[str, int], Port]()
    for port in ports:
        if other := seen.get((port.host, port.number)):
            found.append(
                f"port {port.number} is set for both {other.purpose} ({other.setting}) "
                f"and {port.purpose} ({port.setting})"
            )
        elif reason := problem(port):
            found.append(reason)
        seen[port.host, port.number] = port
    return found


def free(count: int, host: str = "127.0.0.1") -> list[int]:
    """Different ports that nothing listens on; raises OSError when there are not enough."""
    found: list[int] = []
    for number in random.sample(FREE, len(FREE)):
        if len(found) == count:
            return found
        if not problem(Port(host, number, "", "")):
            found.append(number)
    raise OSError(errno.EADDRNOTAVAIL, f"no {count} free ports between {FREE.start} and {FREE.stop} on {host}")
