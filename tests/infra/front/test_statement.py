from __future__ import annotations

import pytest

from infra.local.front.errors import FrontError
from infra.local.front.statement import insert_of, kill_of, output_of, replace_tables

FORMATS = {name.lower(): name for name in ("Native", "CSV", "Values", "ArrowStream", "JSONEachRow", "TSV")}


@pytest.mark.parametrize(
    ("text", "head", "format", "data"),
    [
        ("INSERT INTO t FORMAT CSV\n1,2", "INSERT INTO t ", "CSV", "1,2"),
        ("INSERT INTO t FORMAT csv   1,2", "INSERT INTO t ", "CSV", "1,2"),
        ("INSERT INTO t FORMAT CSV \r\n\n1", "INSERT INTO t ", "CSV", "\n1"),
        ("insert into t (a, format) values (1, 2)", "insert into t (a, format) ", "Values", " (1, 2)"),
        ("INSERT INTO t(a)VALUES(1)", "INSERT INTO t(a)", "Values", "(1)"),
        ("INSERT INTO values VALUES (1)", "INSERT INTO values ", "Values", " (1)"),
        ("INSERT INTO db.values FORMAT TSV 1", "INSERT INTO db.values ", "TSV", "1"),
        ("INSERT INTO t SETTINGS a = 1 FORMAT CSV\nx", "INSERT INTO t SETTINGS a = 1 ", "CSV", "x"),
        ("INSERT INTO t FORMAT CSV SETTINGS a = 1, b = 'c'\nx", "INSERT INTO t  SETTINGS a = 1, b = 'c'", "CSV", "x"),
        ("/* FORMAT CSV */ INSERT INTO t FORMAT TSV ", "/* FORMAT CSV */ INSERT INTO t ", "TSV", ""),
        ("INSERT INTO t SELECT 'FORMAT CSV'", "INSERT INTO t SELECT 'FORMAT CSV'", None, ""),
        ("INSERT INTO t SELECT * FROM values('a UInt8', 1)", None, None, ""),
        ("WITH 1 AS x INSERT INTO t SELECT x", None, None, ""),
    ],
)
def test_where_the_data_begin(text: str, head: str | None, format: str | None, data: str) -> None:
    found = insert_of(text.encode(), FORMATS)
    assert found is not None
    assert found.head.decode() == (text if head is None else head)
    assert found.format == format
    assert text.encode()[found.data :].decode() == data


@pytest.mark.parametrize("text", ["SELECT 1 FORMAT CSV", "WITH 1 AS x SELECT x", "CREATE TABLE t (a UInt8)", "", "  "])
def test_no_insert(text: str) -> None:
    assert insert_of(text.encode(), FORMATS) is None


@pytest.mark.parametrize(
    ("call", "structure"),
    [
        ("input('a UInt8, b FixedString(16)')", "'a UInt8, b FixedString(16)'"),
        ("INPUT ( 'a Enum8(\\'x\\' = 1)' )", "'a Enum8(\\'x\\' = 1)' "),
        ("input()", ""),
        ("input(concat('a', ' UInt8'))", "concat('a', ' UInt8')"),
    ],
)
def test_input(call: str, structure: str) -> None:
    text = f"INSERT INTO t (a) SELECT a FROM {call} WHERE ((SELECT max(b) FROM c) = 5) FORMAT ArrowStream\n\xff"
    found = insert_of(text.encode("latin-1"), FORMATS)
    assert found is not None
    assert found.call is not None
    assert found.structure is not None
    assert found.head[slice(*found.call)].decode() == call
    assert found.head[slice(*found.structure)].decode() == structure
    assert (found.format, text.encode("latin-1")[found.data :]) == ("ArrowStream", b"\xff")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("INSERT INTO t SELECT * FROM input('a UInt8')", 62),
        ("INSERT INTO t SELECT * FROM input('a UInt8') FORMAT Nope", 62),
        ("INSERT INTO t SELECT * FROM input('a') AS x, input('b') AS y FORMAT CSV", 62),
        ("INSERT INTO t SELECT * FROM input('a' FORMAT CSV", 62),
        ("INSERT INTO t FROM INFILE 'x' FORMAT CSV", 78),
        ("INSERT INTO t FORMAT Nope\n1", 73),
        ("INSERT INTO t FORMAT CSV SETTINGS a\n1", 62),
    ],
)
def test_inserts_that_are_refused(text: str, code: int) -> None:
    with pytest.raises(FrontError) as caught:
        insert_of(text.encode(), FORMATS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("SELECT 1 -- x", "SELECT 1\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("SELECT 1;", "SELECT 1\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("SELECT 1 FORMAT CSV", "SELECT 1 \nINTO OUTFILE 'P' APPEND\nFORMAT CSV"),
        ("SELECT 1 FORMAT CSV SETTINGS a = 1", "SELECT 1 \nINTO OUTFILE 'P' APPEND\nFORMAT CSV SETTINGS a = 1"),
        ("SELECT 1 SETTINGS a = 1", "SELECT 1 SETTINGS a = 1\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("SELECT x AS format", "SELECT x AS format\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("SELECT t.format FROM t", "SELECT t.format FROM t\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("SELECT 1 GROUP BY table FORMAT CSV", "SELECT 1 GROUP BY table \nINTO OUTFILE 'P' APPEND\nFORMAT CSV"),
        ("DESCRIBE TABLE format", "DESCRIBE TABLE format\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
        ("DESCRIBE TABLE format FORMAT CSV", "DESCRIBE TABLE format \nINTO OUTFILE 'P' APPEND\nFORMAT CSV"),
        (
            "DESCRIBE TABLE format SETTINGS a = 1",
            "DESCRIBE TABLE format SETTINGS a = 1\nINTO OUTFILE 'P' APPEND\nFORMAT TSV",
        ),
        ("SELECT (SELECT 1 FORMAT CSV)", "SELECT (SELECT 1 FORMAT CSV)\nINTO OUTFILE 'P' APPEND\nFORMAT TSV"),
    ],
)
def test_where_the_output_goes(sql: str, expected: str) -> None:
    assert output_of(sql.encode(), FORMATS).into("P", "TSV") == expected


@pytest.mark.parametrize(
    ("sql", "code"),
    [("SELECT 1 INTO OUTFILE 'x'", 358), ("SELECT 1 into # \n outfile 'x'", 358), ("SELECT 1 FORMAT No", 73)],
)
def test_outputs_that_are_refused(sql: str, code: int) -> None:
    with pytest.raises(FrontError) as caught:
        output_of(sql.encode(), FORMATS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("sql", "condition", "how", "format"),
    [
        ("KILL QUERY WHERE query_id = 'a' SYNC", "query_id = 'a'", "SYNC", None),
        ("kill query where 1 format CSV", "1", "ASYNC", "CSV"),
        ("KILL QUERY WHERE a = 'SYNC' AND (b OR c) TEST FORMAT CSV;", "a = 'SYNC' AND (b OR c)", "TEST", "CSV"),
    ],
)
def test_kill(sql: str, condition: str, how: str, format: str | None) -> None:
    found = kill_of(sql.encode(), FORMATS)
    assert found is not None
    assert (found.condition, found.how, found.format) == (condition, how, format)


def test_what_is_no_kill_of_queries() -> None:
    assert kill_of(b"KILL MUTATION WHERE 1", FORMATS) is None
    assert kill_of(b"SELECT 1", FORMATS) is None
    for sql in (b"KILL QUERY", b"KILL QUERY WHERE", b"KILL QUERY WHERE SYNC", b"KILL QUERY ON CLUSTER x WHERE 1"):
        with pytest.raises(FrontError):
            kill_of(sql, FORMATS)


def test_tables_of_the_front() -> None:
    sql = b"SELECT 'system.processes' FROM system.processes AS p, `system` . \"processes\", x.processes, system.parts"
    expected = b"SELECT 'system.processes' FROM (x) AS p, (x), x.processes, system.parts"
    assert replace_tables(sql, {"processes": "(x)"}) == expected
