"""People who may ask for a token by name and password: a file of scrypt hashes, mode 0600."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

_COST = {"n": 1 << 14, "r": 8, "p": 1}  # about 16 MiB and 50 ms
_NOBODY = ("00" * 16, "00" * 32)


def add(path: Path, login: str, password: str) -> None:
    """Adds a user or changes the password. Raises ValueError for an empty one."""
    if not login or not password:
        raise ValueError("a user needs a login and a password")
    users = _load(path)
    salt = secrets.token_hex(16)
    users[login] = (salt, _hash(password, salt))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(users, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def verify(path: Path, login: str, password: str) -> bool:
    """Whether the password is the user's; takes as long for an unknown user."""
    salt, digest = _load(path).get(login, _NOBODY)
    return hmac.compare_digest(_hash(password, salt), digest)


def _hash(password: str, salt: str) -> str:
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=bytes.fromhex(salt), dklen=32, **_COST).hex()


def _load(path: Path) -> dict[str, tuple[str, str]]:
    try:
        return {login: (salt, digest) for login, (salt, digest) in json.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
