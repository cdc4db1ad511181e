"""People who may ask for a token by name and password: a file of scrypt hashes, mode 0600."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

import msgspec

from infra.service.files import replace

_COST = {"n": 1 << 14, "r": 8, "p": 5}  # 16 MiB and about 0.2 s: OWASP's password storage cheat sheet
_NOBODY = ("00" * 16, "00" * 32)


class UsersError(ValueError):
    """A user or the file of users is wrong; the message says what is expected."""


def add(path: Path, login: str, password: str) -> None:
    """Adds a user or changes the password; raises UsersError."""
    if not login or not password:
        raise UsersError("a user needs a name and a password")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = _load(path)
        salt = secrets.token_hex(16)
        users[login] = (salt, _hash(password, salt))
        replace(path, f"{json.dumps(users, indent=1)}\n".encode(), 0o600)


def remove(path: Path, login: str) -> None:
    """Takes a user out; raises UsersError. Tokens that the user has been given live on until they expire."""
    with open(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = _load(path)
        if users.pop(login, None) is None:
            raise UsersError(f"{path}: there is no such user")
        replace(path, f"{json.dumps(users, indent=1)}\n".encode(), 0o600)


def verify(path: Path, login: str, password: str) -> bool:
    """Whether the password is the user's; takes as long for an unknown user, where there is any. Raises UsersError."""
    users = _load(path)
    if not users:
        return False
    salt, digest = users.get(login, _NOBODY)
    return hmac.compare_digest(_hash(password, salt), digest)


def _hash(password: str, salt: str) -> str:
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=bytes.fromhex(salt), dklen=32, **_COST).hex()


def _load(path: Path) -> dict[str, tuple[str, str]]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[str, str]])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError:
        raise UsersError(
            f"{path}: must be a JSON object of user -> [salt, hash]; `veilstream users add` writes it"
        ) from None
    except OSError as error:
        raise UsersError(f"{path}: {error.strerror}") from None
