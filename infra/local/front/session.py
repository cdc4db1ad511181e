"""What a request sets for its query: settings by allow-list, parameters, limits, as one SET statement."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from infra.local.front.errors import BAD_ARGUMENTS, READONLY, SETTING_CONSTRAINT_VIOLATION, UNKNOWN_SETTING, FrontError
from infra.local.front.lexer import literal

#: Keys of the URL that belong to the transport, or mean something only in a server; none reaches the engine.
TRANSPORT = frozenset(
    {"query", "query_id", "database", "default_format", "user", "password", "quota_key", "stacktrace", "role",
     "compress", "decompress", "wait_end_of_query", "buffer_size", "client_protocol_version", "session_id",
     "session_timeout", "session_check", "session_timezone_check", "close_session", "send_progress_in_http_headers",
     "enable_http_compression", "add_http_cors_header", "network_compression_method",
     "network_zstd_compression_level", "cancel_http_readonly_queries_on_client_close", "replace_running_query",
     "replace_running_query_max_wait_ms", "log_comment", "log_queries", "log_query_settings", "send_logs_level",
     "send_timeout", "receive_timeout", "query_cache_tag"}
)  # fmt: skip
TRANSPORT_PREFIXES = ("http_", "param_")

#: Settings of the engine that a request may change: those that shape a query, its limits, its formats.
ALLOWED = frozenset(
    {"final", "extremes", "limit", "offset", "totals_mode", "session_timezone", "additional_table_filters",
     "additional_result_filter", "transform_null_in", "flatten_nested", "any_join_distinct_right_table_keys",
     "union_default_mode", "intersect_default_mode", "except_default_mode", "async_insert",
     "async_insert_deduplicate", "data_type_default_nullable", "select_sequential_consistency",
     "deduplicate_blocks_in_dependent_materialized_views", "low_cardinality_allow_in_native_format",
     "do_not_merge_across_partitions_select_final", "rows_before_aggregation", "implicit_select",
     "analyze_index_with_space_filling_curves", "schema_inference_use_cache_for_file"}
)  # fmt: skip
ALLOWED_PREFIXES = (
    "aggregate_functions_", "allow_", "alter_", "apply_", "async_insert_", "cast_", "check_query_", "compile_",
    "count_", "date_time_", "describe_", "distinct_", "empty_result_", "enable_", "exact_", "force_", "format_",
    "function_", "group_by_", "input_format_", "insert_", "interval_", "join_", "lightweight_", "materialize_",
    "max_", "merge_tree_", "min_", "mutations_", "optimize_", "output_format_", "parallel_", "partial_",
    "preferred_", "prefer_", "query_plan_", "read_", "regexp_", "result_", "short_circuit_", "sort_", "timeout_",
    "use_", "validate_", "wait_for_",
)  # fmt: skip

#: What a read-only user may change, as a server's profile would say with CHANGEABLE_IN_READONLY.
CHANGEABLE_IN_READONLY = frozenset({"max_execution_time"})

_PARAMETER = re.compile(r"[A-Za-z0-9_]{1,128}")
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")


def settings_of(parameters: Mapping[str, str], known: Collection[str], *, reads_only: bool) -> dict[str, str]:
    """The engine's settings among a request's parameters. Raises FrontError for an unknown or a forbidden one."""
    settings: dict[str, str] = {}
    for name, value in parameters.items():
        if name in TRANSPORT or name.startswith(TRANSPORT_PREFIXES):
            continue
        if name not in known:
            raise FrontError(
                UNKNOWN_SETTING, f"Setting {name[:128]} is neither a builtin setting nor started with the prefix 'SQL_'"
            )
        if reads_only and name not in CHANGEABLE_IN_READONLY:
            raise FrontError(READONLY, f"Cannot modify '{name}' setting in readonly mode")
        if name not in ALLOWED and not name.startswith(ALLOWED_PREFIXES):
            raise FrontError(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed")
        settings[name] = value
    return settings


def query_parameters_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """The values of ``{name:Type}``, by name, as they were sent."""
    found = {name[len("param_") :]: value for name, value in parameters.items() if name.startswith("param_")}
    for name in found:
        if _PARAMETER.fullmatch(name) is None:
            raise FrontError(BAD_ARGUMENTS, f"parameter name {name[:64]!r} is not letters, digits and underscores")
    return found


def limited(settings: Mapping[str, str], name: str, limit: float) -> str:
    """A setting's value, at most ``limit``; 0, which means no limit, and absence give the limit itself."""
    value = settings.get(name)
    if value is None:
        return f"{limit:g}" if limit < 1e6 else f"{limit:.0f}"
    if _NUMBER.fullmatch(value) is None:
        raise FrontError(BAD_ARGUMENTS, f"setting {name}: {value[:32]!r} is not a number")
    return value if 0 < float(value) <= limit else (f"{limit:g}" if limit < 1e6 else f"{limit:.0f}")


def set_statement(settings: Mapping[str, str], query_parameters: Mapping[str, str]) -> str:
    """One SET for all; names were checked, values are quoted, so nothing of a request is read as SQL."""
    pairs = [f"{name} = {literal(value)}" for name, value in settings.items()]
    pairs += [f"param_{name} = {literal(value)}" for name, value in query_parameters.items()]
    return "SET " + ", ".join(pairs)
