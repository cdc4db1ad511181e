"""Site files and tokens as commands and processes write them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from infra import sites, users
from schemas.packets import Role
from schemas.sites import Known, PolicySet, SitesError, load_sites
from schemas.tokens import token_hash
from tests.infra.test_cli import veilstream


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return veilstream("sites", *arguments, VEILSTREAM_STATE=str(folder.parent), VEILSTREAM_SITES_DIR=str(folder))


def _add(folder: Path, together: Barrier) -> None:
    together.wait(60)
    for _ in range(100):
        site = sites.add(folder, name=str(os.getpid()))
        assert load_sites(folder).by_id[site.id].name == str(os.getpid())
        sites.add_token(folder, None, Role.SUPERUSER)


@pytest.mark.long
def test_two_processes_never_get_the_same_id_and_lose_no_token(tmp_path: Path) -> None:
    context = get_context("spawn")
    together = context.Barrier(2)
    both = [context.Process(target=_add, args=(tmp_path, together)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(100)
    assert [process.exitcode for process in both] == [0, 0]
    found = load_sites(tmp_path)
    assert list(found.by_id) == list(range(1, 201))
    assert len(found.superusers) == 200


def test_an_id_is_not_given_twice(tmp_path: Path) -> None:
    assert [sites.add(tmp_path, name="S").id for _ in range(2)] == [1, 2]
    (tmp_path / "2.toml").unlink()
    assert sites.add(tmp_path, name="S").id == 3
    with pytest.raises(SitesError, match="3 exists already"):
        sites.add(tmp_path, name="S", number=3)


def test_what_cannot_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(SitesError, match=r"1\.toml: timezone"):
        sites.add(tmp_path, name="S", timezone="Mars/X")
    assert not list(tmp_path.glob("*.toml"))
    assert not list(tmp_path.glob(".*toml*"))
    name = 'a "b" \\ \x7f \x00 \n é'
    sites.add(tmp_path, name=name)
    assert load_sites(tmp_path).by_id[1].name == name


def test_what_people_wrote_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "1.toml"
    head, tail = "# ours\nname = 'A'  # told to people\n\n", "\n[privacy] # strict\nmask_bytes = 3\n"
    path.write_text(head + " [ tokens ] # all of them" + tail)
    path.chmod(0o640)
    first = sites.add_token(tmp_path, 1, Role.WRITE, description='for "it" # 1')
    second = sites.add_token(tmp_path, 1, Role.VIEW)
    site = load_sites(tmp_path).by_id[1]
    assert (site.role(first), site.role(second)) == (Role.WRITE, Role.VIEW)
    assert site.tokens[token_hash(first)].description == 'for "it" # 1'
    for token in (first, second):
        assert token not in path.read_text()
        sites.revoke_token(tmp_path, 1, token_hash(token)[:12].upper())
    assert path.read_text() == head + " [ tokens ] # all of them" + tail
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert load_sites(tmp_path).by_id[1].role(first) is Role.NONE


def test_tokens_written_in_a_way_that_cannot_be_edited_stay(tmp_path: Path) -> None:
    path = tmp_path / "1.toml"
    text = f'tokens = {{"{"a" * 64}" = "view"}}\n'
    path.write_text(text)
    with pytest.raises(SitesError, match="a line each"):
        sites.add_token(tmp_path, 1, Role.VIEW)
    with pytest.raises(SitesError, match="a line each"):
        sites.revoke_token(tmp_path, 1, "aa")
    assert path.read_text() == text


def test_a_token_is_revoked_by_a_prefix_that_is_its_own(tmp_path: Path) -> None:
    sites.add(tmp_path, name="A")
    for _ in range(17):
        sites.add_token(tmp_path, 1, Role.VIEW)
    first = min(load_sites(tmp_path).by_id[1].tokens)
    for prefix in ("", "x"):
        with pytest.raises(SitesError, match="0 tokens"):
            sites.revoke_token(tmp_path, 1, prefix)
    digits = {digest[0] for digest in load_sites(tmp_path).by_id[1].tokens}
    twice = next(d for d in digits if sum(t.startswith(d) for t in load_sites(tmp_path).by_id[1].tokens) > 1)
    with pytest.raises(SitesError, match="it must be one"):
        sites.revoke_token(tmp_path, 1, twice)
    assert sites.revoke_token(tmp_path, 1, first) == first
    assert len(load_sites(tmp_path).by_id[1].tokens) == 16


def test_an_expired_token_counts_no_more(tmp_path: Path) -> None:
    sites.add(tmp_path, name="A")
    now = datetime.now(UTC)
    old = sites.add_token(tmp_path, 1, Role.WRITE, expires=now - timedelta(hours=1))
    new = sites.add_token(tmp_path, 1, Role.WRITE, expires=now + timedelta(hours=1))
    site = load_sites(tmp_path).by_id[1]
    assert (site.role(old), site.role(new)) == (Role.NONE, Role.WRITE)
    assert list(load_sites(tmp_path).readable(new)) == [1]
    assert not load_sites(tmp_path).readable(old)


def test_only_changed_files_are_read_again(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        sites.add(tmp_path, name="S", number=number)
    known: Known = {}
    before = load_sites(tmp_path, known)
    (tmp_path / "2.toml").write_text('name = "Other"\n')
    (tmp_path / "3.toml").unlink()
    after = load_sites(tmp_path, known)
    assert after.by_id[1] is before.by_id[1]
    assert after.by_id[2].name == "Other"
    assert list(known) == ["1.toml", "2.toml"]
    (tmp_path / "default.toml").write_text('timezone = "Asia/Tokyo"\n')
    assert load_sites(tmp_path, known).by_id[1].policy.timezone == "Asia/Tokyo"


def test_a_set_of_thousands_of_sites_is_a_small_record_under_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text('domains = ["shop.example"]\n')
    policy = load_sites(tmp_path).by_id[1].policy
    policies = PolicySet(dict.fromkeys(range(1, 5001), policy))
    record = policies.dump()
    assert len(record) < len(policies.canonical) / 20
    again = PolicySet.load(record)
    assert again.version == policies.version
    assert again.dump() == record
    assert again.canonical == policies.canonical
    assert again.of(5000) is again.of(1)
    with pytest.raises(SitesError, match="not a set"):
        PolicySet.load(record[:-9])


def test_commands(tmp_path: Path) -> None:
    folder = tmp_path / "sites.d"
    assert cli(folder, "add", "Shop", "--domain", "shop.example").returncode == 0
    made = cli(folder, "token", "1", "--role", "write", "--description", "importer", "--expires", "2999-01-31")
    token = made.stdout.strip()
    digest = token_hash(token)
    assert load_sites(folder).by_id[1].role(token) is Role.WRITE
    assert digest[:12] in made.stderr
    shown = cli(folder, "show", "1").stdout
    assert token not in shown
    assert json.loads(shown)["tokens"] == [
        {
            "hash": digest,
            "role": "write",
            "description": "importer",
            "expires": "2999-01-31T00:00:00+00:00",
            "expired": False,
        }
    ]
    root = cli(folder, "token", "--role", "superuser").stdout.strip()
    assert load_sites(folder).superuser(root)
    listed = json.loads(cli(folder, "token", "--list").stdout)["tokens"]
    assert [one["hash"] for one in listed] == [token_hash(root)]
    assert json.loads(cli(folder, "list", "--json").stdout)["sites"][0]["domains"] == ["shop.example"]
    assert cli(folder, "token", "1", "--revoke", digest[:12]).returncode == 0
    assert load_sites(folder).by_id[1].role(token) is Role.NONE
    for words, status, said in (
        (("token", "1", "--role", "superuser"), 2, "--role"),
        (("token", "--role", "write"), 2, "--role"),
        (("token", "1"), 2, "--role"),
        (("token", "1", "--role", "view", "--expires", "2001-01-01"), 2, "--expires"),
        (("token", "9", "--role", "view"), 1, "9.toml"),
        (("show", "9"), 1, "no site 9"),
    ):
        done = cli(folder, *words)
        assert (done.returncode, said in done.stderr) == (status, True), (words, done.stderr)


def test_check_names_every_wrong_file_its_key_and_what_is_expected(tmp_path: Path) -> None:
    folder = tmp_path / "sites.d"
    sites.add(folder, name="S")
    assert cli(folder, "check").returncode == 0
    (folder / "2.toml").write_text("shards = 0\n")
    (folder / "3.toml").write_text('name = "S"\ndomain = []\n')
    (folder / "superusers.toml").write_text(f'[tokens]\n"{"a" * 64}" = "view"\n')
    done = cli(folder, "check")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "2.toml: shards must be from 1 to 1024" in lines[0]
    assert "3.toml" in lines[1]
    assert "`domain`" in lines[1]
    assert "superusers.toml: tokens must have the role superuser" in lines[2]
    assert len(json.loads(cli(folder, "check", "--json").stdout)["problems"]) == 3


def test_users_prove_themselves_by_password(tmp_path: Path) -> None:
    path = tmp_path / "state" / "users.json"
    users.add(path, "ann", "secret")
    users.add(path, "bob", "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in path.read_text()
    assert len({salt for salt, _ in json.loads(path.read_text()).values()}) == 2
    assert users.verify(path, "ann", "secret")
    for login, password in (("ann", "Secret"), ("ann", ""), ("eve", "secret"), ("", "")):
        assert not users.verify(path, login, password)
    users.add(path, "ann", "other")
    assert not users.verify(path, "ann", "secret")
    users.remove(path, "ann")
    assert not users.verify(path, "ann", "other")
    with pytest.raises(users.UsersError, match="no such user"):
        users.remove(path, "ann")
    path.write_text("[]")
    with pytest.raises(users.UsersError, match=r"users\.json.*users add"):
        users.verify(path, "bob", "secret")


def test_a_user_is_added_by_command(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    done = veilstream("users", "add", "ann", "--password-stdin", VEILSTREAM_USERS_FILE=str(path), stdin="secret\n")
    assert done.returncode == 0, done.stderr
    assert users.verify(path, "ann", "secret")
    assert veilstream("users", "add", "ann", "--password-stdin", VEILSTREAM_USERS_FILE=str(path)).returncode == 1
