"""A small server that speaks ClickHouse's HTTP protocol over the embedded engine (chDB).

With it the laptop has one database on port 8123 that every process, Grafana and any ClickHouse client can share,
and the rest of the code cannot tell it from a server. ``python -m infra.local.front --help`` starts it.

Spoken: queries by GET and POST, in the URL, the body or a form; bodies with a length or chunked; request and
response compression (gzip, deflate, lz4, zstd); ``param_*``; settings by allow-list; every output format, streamed;
``X-ClickHouse-*`` headers, typed errors and the exception block of a stream that breaks off; data inserts in every
input format, ``input()``; ``KILL QUERY``, ``system.processes``, ``replace_running_query``; external tables; a
service user and a read-only dashboard user; ``/ping``, ``/replicas_status``, ``/metrics``, ``/livez``, ``/readyz``.
Not spoken: sessions (``session_id`` is accepted, nothing is kept), ClickHouse's own block compression
(``compress=1``), Native revisions above 0, users and grants in SQL.

A thread per connection, because an engine call blocks its thread and releases the interpreter meanwhile; and a fresh
engine handle per query (about a millisecond), because a handle is a session: no setting of one query reaches another,
and handles run in parallel, a read beside a write.
"""
