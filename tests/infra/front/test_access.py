"""The dashboard user: what it may read, and the ways round that are closed."""

from __future__ import annotations

import pytest

from tests.infra.front.conftest import DASHBOARD, DASHBOARD_PASSWORD, Answer, RunningFront

READER = (DASHBOARD, DASHBOARD_PASSWORD)


@pytest.fixture(scope="module")
def secret(front: RunningFront) -> str:
    """A table with keys, and one without."""
    for table in ("vault_keys", "pages"):
        created = front.request(f"CREATE TABLE IF NOT EXISTS {table} (a String) ENGINE = MergeTree ORDER BY a")
        assert created.status == 200, created.body
    assert front.request("INSERT INTO vault_keys VALUES ('top secret')").written_rows == 1
    assert front.request("INSERT INTO pages VALUES ('/index')").written_rows == 1
    return "vault_keys"


def ask(front: RunningFront, sql: str, **parameters: str) -> Answer:
    return front.request(sql, user=READER, parameters=parameters)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM pages", b"/index\n"),
        ("/* Grafana */ WITH x AS (SELECT a FROM pages) SELECT count() FROM x", b"1\n"),
        ("SELECT * FROM (SELECT a FROM pages UNION ALL SELECT 'b') ORDER BY 1", b"/index\nb\n"),
        ("(SELECT 1) UNION ALL (SELECT 1)", b"1\n1\n"),
        ("EXISTS TABLE pages", b"1\n"),
        ("SHOW TABLES LIKE 'pages'", b"pages\n"),
        ("SHOW TABLES FROM \"veilstream\" LIKE 'pages'", b"pages\n"),
        ("SHOW DATABASES LIKE 'veilstream'", b"veilstream\n"),
        ("SELECT name FROM system.columns WHERE table = 'pages'", b"a\n"),
        ("SELECT count() > 100 FROM system.functions", b"1\n"),
        ("SELECT name FROM system.databases WHERE name = 'veilstream'", b"veilstream\n"),
        ("SELECT toStartOfInterval(toDateTime(1700000000, 'UTC'), INTERVAL 60 second)", b"2023-11-14 22:13:00\n"),
        ("SELECT sum(number) FROM numbers(10)", b"45\n"),
        ("SELECT format('{}-{}', 'a', 'b'), domain('http://x.y/z'), url FROM (SELECT 'u' AS url)", b"a-b\tx.y\tu\n"),
        ("SELECT user, count() FROM system.processes GROUP BY user", b"grafana\t1\n"),
    ],
)
def test_reads(front: RunningFront, secret: str, sql: str, expected: bytes) -> None:
    answer = ask(front, sql)
    assert (answer.status, answer.body) == (200, expected)


def test_describe_and_explain(front: RunningFront, secret: str) -> None:
    assert ask(front, "DESCRIBE TABLE pages").body.startswith(b"a\tString\t")
    assert b"ReadFromMergeTree" in ask(front, "EXPLAIN SELECT a FROM pages").body


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO pages VALUES ('x')",
        "INSERT INTO pages SELECT 'x'",
        "INSERT INTO pages FORMAT CSV",
        "WITH 'x' AS v INSERT INTO pages SELECT v",
        "CREATE TABLE mine (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE mine (a UInt8)",
        "CREATE VIEW mine AS SELECT * FROM pages",
        "DROP TABLE pages",
        "TRUNCATE TABLE pages",
        "ALTER TABLE pages DELETE WHERE 1",
        "DELETE FROM pages WHERE 1",
        "OPTIMIZE TABLE pages",
        "SET readonly = 0",
        "SET max_memory_usage = 0",
        "USE system",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE 1",
        "KILL MUTATION WHERE 1",
        "SHOW PROCESSLIST",
        "SHOW CLUSTERS",
        "ATTACH TABLE x",
        "GRANT SELECT ON *.* TO x",
        "BACKUP TABLE pages TO Disk('d', 'x')",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS max_threads = 1",
        "SELECT * FROM (SELECT 1 SETTINGS readonly = 0)",
        "CHECK TABLE pages",
    ],
)
def test_writes_nothing_and_sets_nothing(front: RunningFront, secret: str, sql: str) -> None:
    assert ask(front, sql).code == 164
    assert front.request("SELECT count() FROM pages").body == b"1\n"


@pytest.mark.parametrize("sql", ["SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT a FROM pages INTO OUTFILE 'x' FORMAT CSV"])
def test_writes_no_file(front: RunningFront, secret: str, sql: str) -> None:
    assert ask(front, sql).code in (164, 358)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM vault_keys",
        "SELECT * FROM veilstream.vault_keys",
        "SELECT * FROM `vault_keys`",
        'SELECT * FROM "vault_keys"',
        "SELECT * FROM `v\\x61ult_keys`",
        "SELECT * FROM veilstream . /* x */ vault_keys",
        "SELECT * FROM “vault_keys”",
        "SELECT (SELECT any(a) FROM vault_keys)",
        "SELECT 1 WHERE 'x' IN vault_keys",
        "SELECT 1 FROM pages JOIN vault_keys USING a",
        "WITH vault_keys AS k SELECT 1",
        "DESCRIBE TABLE vault_keys",
        "SHOW CREATE TABLE vault_keys",
        "SHOW CREATE veilstream.vault_keys",
        "EXPLAIN SELECT * FROM vault_keys",
        "EXISTS TABLE vault_keys",
        "SELECT * FROM merge('veilstream', 'vault_keys')",
        "SELECT * FROM merge('veilstream', 'v.ult_keys')",
        "SELECT * FROM merge(REGEXP('.*'), '.*')",
        "SELECT * FROM remote('127.0.0.1', veilstream, 'pages')",
        "SELECT * FROM remote('127.0.0.1', 'veilstream.vault' || '_keys')",
        "SELECT * FROM cluster('default', veilstream.pages)",
        "SELECT * FROM loop(veilstream.pages)",
        "SELECT * FROM mergeTreeIndex('veilstream', 'vault_' || 'keys')",
        "SELECT * FROM dictionary('x')",
        "SELECT dictGet('vault' || '_keys', 'a', 1)",
        "SELECT joinGet('vault' || '_keys', 'a', 1)",
        "SELECT hasColumnInTable('veilstream', 'vault' || '_keys', 'a')",
        "SELECT file('/etc/passwd')",
        "SELECT FILE('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM numbers(1), file('/etc/passwd', 'LineAsString')",
        "DESCRIBE TABLE file('/etc/passwd')",
        "SELECT 1 IN (SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a UInt8'))",
        "SELECT * FROM s3('http://127.0.0.1:1/x')",
        "SELECT * FROM Python(os)",
        "SELECT * FROM python('x')",
        "SELECT * FROM executable('x', 'CSV', 'a String')",
        "SELECT * FROM sqlite('x', 'y')",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT * FROM input('a UInt8')",
        "SELECT * FROM system.mutations",
        "SELECT * FROM `system`.`mutations`",
        "SELECT * FROM system.query_log",
        "SELECT * FROM system.errors",
        "SELECT * FROM system.user_processes",
        "SELECT * FROM system.server_settings",
        "SELECT * FROM system.query_cache",
        "SELECT * FROM system.users",
        "SELECT * FROM system.stack_trace",
        "SELECT 1 IN system.mutations",
        "DESCRIBE TABLE system.mutations",
        "SHOW CREATE TABLE system.mutations",
    ],
)
def test_keys_files_and_the_engine_itself_are_closed(front: RunningFront, secret: str, sql: str) -> None:
    answer = ask(front, sql)
    assert answer.code in (497, 62), answer.body
    assert b"top secret" not in answer.body
    assert b"root:" not in answer.body


def test_parameters_open_nothing(front: RunningFront, secret: str) -> None:
    for name in ("vault_keys", "veilstream.vault_keys", "system.mutations"):
        answer = ask(front, "SELECT * FROM {t:Identifier}", param_t=name)
        assert answer.code in (36, 497), answer.body
    both = {"param_d": "system", "param_t": "mutations"}
    assert ask(front, "SELECT * FROM {d:Identifier}.{t:Identifier}", **both).code in (36, 497)
    assert ask(front, "SELECT * FROM mutations", database="system").code == 497
    assert ask(front, "SELECT * FROM mutations", database="SYSTEM").code != 0
    assert ask(front, "SELECT {a:String}", param_a="plain").body == b"plain\n"


def test_settings_of_the_dashboard(front: RunningFront) -> None:
    seconds = "SELECT getSetting('max_execution_time')"
    assert ask(front, seconds, max_execution_time="5").body == b"5\n"
    limit = float(ask(front, seconds).body)
    for asked in ("0", "100000"):
        assert float(ask(front, seconds, max_execution_time=asked).body) == limit
    for name, value in (("max_memory_usage", "0"), ("readonly", "0"), ("max_result_rows", "0"), ("allow_ddl", "1")):
        assert ask(front, "SELECT 1", **{name: value}).code == 164
    # Transport keys are no settings.
    assert ask(front, "SELECT 1", wait_end_of_query="1", client_protocol_version="54460", role="x").body == b"1\n"
    names = "'max_execution_time', 'max_threads'"
    changeable = f"SELECT name, readonly FROM system.settings WHERE name IN ({names}) ORDER BY name"
    assert ask(front, changeable).body == b"max_execution_time\t0\nmax_threads\t1\n"


def test_the_dashboard_sees_its_own_queries_only(front: RunningFront) -> None:
    assert front.request("SELECT user FROM system.processes").body.strip() == b"service"
    found = ask(front, "SELECT user, query FROM system.processes AS p WHERE p.elapsed >= 0").body
    assert found.startswith(b"grafana\tSELECT user")
