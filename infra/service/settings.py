"""Settings of every process: environment (VEILSTREAM_*), then a TOML file, then defaults.

The file is named by VEILSTREAM_CONFIG. Settings are checked at start; a wrong or unknown one stops the
process with a message that names it. A secret may come from a file: VEILSTREAM_CLICKHOUSE_PASSWORD_FILE and
so on.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.topics import VIDEO_RETRIES

PREFIX = "VEILSTREAM_"
CONFIG_FILE = "VEILSTREAM_CONFIG"
# Variables with the prefix that are no settings of a process: for the tests and for `run` itself.
NOT_SETTINGS = frozenset({CONFIG_FILE, "VEILSTREAM_TEST_MEDIA", "VEILSTREAM_TEST_VECTORS"})
PASSWORDS = ("clickhouse_password", "clickhouse_dashboard_password")  # `up` makes them where they are missing
SECRETS = (*PASSWORDS, "s3_secret_access_key")
RETRIES, LONGEST_RETRY = len(VIDEO_RETRIES), 86400
OPENABLE = ("health", "metrics", "openapi")  # of the video API


class SettingsError(ValueError):
    """A setting is wrong; the message names it and says what is expected."""


class Settings(BaseSettings):
    """All settings; a process uses those it needs. Sizes are bytes, times seconds, unless named otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    state: Path = Field(Path(".veilstream"), description="folder for everything the local stack keeps")
    host: str = Field("127.0.0.1", description="address that the services listen on")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="least level that is logged")

    # Kafka
    kafka: str = Field("127.0.0.1:9092", min_length=1, description="bootstrap servers, host:port, comma between")
    kafka_port: int = Field(9092, ge=1, le=65535, description="port of the local broker")
    kafka_controller_port: int = Field(9093, ge=1, le=65535, description="controller port of the local broker")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="put before every topic's name")
    events_partitions: int = Field(8, ge=1, le=4096, description="partitions of events.raw")
    replication_factor: int = Field(1, ge=1, description="replicas of every topic")
    min_insync_replicas: int = Field(1, ge=1, description="replicas that must have a record before it counts")
    raw_retention_hours: int = Field(168, ge=1, description="hard limit of personal data in events.raw, in hours")

    raw_margin_hours: float = Field(
        6.0, ge=0, description="how long events.raw keeps what is stored already, for a replay; then it is deleted"
    )
    raw_readers: str = Field(
        "",
        description="consumer groups of other readers of events.raw (a backup, a second deployment), comma between; "
        "what they have not committed is not deleted before raw_retention_hours",
    )

    # ClickHouse
    clickhouse_url: str | None = Field(
        None, pattern="^https?://", description="ClickHouse server; without it the embedded engine is started"
    )
    clickhouse_port: int = Field(8123, ge=1, le=65535, description="HTTP port of the embedded engine's front")
    clickhouse_database: str = Field("veilstream", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="database")
    clickhouse_user: str = Field("veilstream", description="user of the services")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="password of the services' user")
    clickhouse_dashboard_user: str = Field("dashboard", description="user that may only read, for dashboards")
    clickhouse_dashboard_password: SecretStr = Field(SecretStr(""), description="password of the dashboard user")
    clickhouse_timeout: float = Field(60.0, gt=0, description="longest wait for an answer of ClickHouse")

    # Sites and vault
    sites_dir: Path | None = Field(None, description="folder of <id>.toml; default: sites.d in the state folder")
    users_file: Path | None = Field(
        None, description="file of users who may ask for a token; default: users.json in the state folder"
    )
    master_key_file: Path | None = Field(
        None, description="file that wraps the vault's keys; default: master.key in the state folder"
    )

    # Collector
    collector_port: int = Field(8080, ge=1, le=65535, description="port of the tracking API")
    collector_matomo_js: Path | None = Field(
        None, description="file that is served as /matomo.js and /piwik.js; without it the answer is 404"
    )
    collector_admin_port: int = Field(8090, ge=1, le=65535, description="port of its /livez, /readyz, /metrics")
    collector_processes: int = Field(1, ge=1, le=64, description="collector processes that share the port")
    collector_process: int = Field(0, ge=0, lt=64, description="number of this process among them, from 0; set by `up`")
    flush_min_ms: float = Field(5.0, gt=0, description="shortest flush interval, in milliseconds")
    flush_max_ms: float = Field(250.0, gt=0, description="longest flush interval, in milliseconds")
    packet_bytes: int = Field(256 * 1024, ge=1024, le=1 << 20, description="size at which a packet is closed")
    # 8 partitions: an answer within 32 ms, so that it takes the acknowledgement of its request along (after 40 ms
    # Linux sends that apart).
    packets_per_second: int = Field(250, ge=1, description="packets that one collector process sends at most")
    collector_memory_bytes: int = Field(
        256 << 20, ge=1 << 20, description="events waiting for Kafka; beyond it requests are answered 503"
    )
    collector_body_bytes: int = Field(8 << 20, ge=1024, description="longest body; beyond it the answer is 413")
    collector_proxies: str = Field("", description="networks of trusted proxies, comma between; empty for none")
    collector_proxy_headers: str = Field(
        "x-forwarded-for", description="headers in which trusted proxies name the visitor's address, comma between"
    )
    collector_proxy_order: str = Field(
        "last", pattern="^(last|first)$", description="end of such a header's list that is read first"
    )
    collector_connections: int = Field(20_000, ge=1, description="open connections of one collector process")
    collector_address_connections: int = Field(
        0, ge=0, description="open connections of one address that is no trusted proxy; beyond it 429; 0 for no limit"
    )
    collector_bulk_items: int = Field(50_000, ge=1, description="requests in one bulk; beyond it the answer is 413")
    collector_address_rate: float = Field(
        0.0,
        ge=0,
        le=1e9,
        description="events per second of one address (an IPv6 address's /64) at one process, without a token that may "
        "write; beyond it the answer is 429; 0 for no limit. That of a site stands in its file",
    )
    collector_address_burst: float | None = Field(
        None, ge=1, le=1e9, description="events of one address at once; default: ten seconds of the rate"
    )
    collector_head_seconds: float = Field(10.0, gt=0, description="longest time a request's head may take")
    collector_body_seconds: float = Field(60.0, gt=0, description="longest time a whole request may take")
    collector_idle_seconds: float = Field(75.0, gt=0, description="time after which an idle connection is closed")
    collector_wait_seconds: float = Field(
        30.0, gt=0, description="longest wait for Kafka; then the answer is 503 and the event's fate unknown"
    )
    collector_request_seconds: float = Field(10.0, gt=0, description="longest wait for one answer of a broker")
    collector_delivery_seconds: float = Field(
        20.0, gt=0, description="after which a producer that fails is replaced; more than collector_request_seconds"
    )
    spool_dir: Path | None = Field(
        None, description="folder for what is taken while Kafka is away; default: spool in the state folder"
    )
    collector_spool_bytes: int = Field(
        4 << 30,
        ge=0,
        description="most bytes of one collector process's spool; beyond it requests are answered 503; 0 for no spool",
    )
    collector_spool_seconds: float = Field(
        86400.0, gt=0, description="age of a packet in the spool at which requests are answered 503"
    )
    collector_spool_after_seconds: float = Field(
        1.0, gt=0, description="time without Kafka's acknowledgement after which a packet goes into the spool"
    )
    collector_seal: bool = Field(
        True,
        description="seal packets to the key of their hour, so that disks of the broker and the spool cannot be read "
        "once it is destroyed",
    )
    collector_stop_seconds: float = Field(15.0, gt=0, description="deadline of an orderly stop")

    # Stream worker
    worker_admin_port: int = Field(8091, ge=1, le=65535, description="port of its /livez, /readyz, /metrics")
    upkeep_seconds: float = Field(
        300.0, gt=0, description="between two times that a worker fetches keys, trims events.raw and lets keys die"
    )
    ledger_seconds: float = Field(30.0, gt=0, description="between two looks of a worker at the books")
    ledger_hours: float = Field(1.0, gt=0, le=336, description="how far back a worker looks at the books")
    worker_processes: int = Field(1, ge=1, le=64, description="stream workers that share the partitions")

    # Video API
    video_port: int = Field(8081, ge=1, le=65535, description="port of the video API")
    video_partitions: int = Field(4, ge=1, le=4096, description="partitions of video.jobs, so most media workers")
    video_folder: Path | None = Field(
        None, description="folder that videos are taken from; default: videos in the state folder"
    )
    video_storage: str = Field(
        "",
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9/._-]*)?)?$",
        description="where outputs, uploads and what is remembered of them lie: s3://BUCKET/PREFIX; empty for folders",
    )
    s3_endpoint: str | None = Field(
        None, pattern="^https?://", description="address of what speaks S3's protocol; without it AWS's own"
    )
    s3_region: str = Field("us-east-1", description="region of the bucket")
    s3_access_key_id: str = Field("", description="key id for S3; without it AWS's variables or the machine's role")
    s3_secret_access_key: SecretStr = Field(SecretStr(""), description="key for S3")
    video_private_folder: Path | None = Field(
        None, description="folder of uploads and of what the video path remembers; default: private in the state folder"
    )
    video_scratch_folder: Path | None = Field(
        None, description="folder of files under way; default: scratch in the state folder"
    )
    video_open: str = Field(
        "health,openapi",
        description="what the video API answers without a token, comma between: health (/livez, /readyz), metrics, "
        "openapi; all else needs one. `up` and probes ask for health",
    )
    video_upload_bytes: int = Field(8 << 30, ge=1, description="largest upload; beyond it the answer is 413")
    video_uploads: int = Field(8, ge=1, description="uploads at once; beyond it the answer is 503")
    video_upload_idle_seconds: float = Field(
        60.0, gt=0, description="longest silence in the middle of an upload; then the answer is 408"
    )
    webhook_secrets_dir: Path | None = Field(
        None, description="folder of the sites' webhook secrets; default: webhooks.d in the state folder"
    )
    video_webhook_seconds: float = Field(15.0, gt=0, description="longest wait for a webhook's receiver")
    video_webhook_hours: float = Field(
        24.0, gt=0, le=144, description="how long a webhook that is not taken is sent again"
    )
    video_repeat_hours: float = Field(
        24.0, gt=0, le=144, description="how long an Idempotency-Key is remembered; less than video.jobs keeps jobs"
    )

    # What is asked on behalf of others: videos by URL, webhooks
    outbound_schemes: str = Field("https", description="how such a URL may begin, comma between: https, http")
    outbound_ports: str = Field("443", description="ports that such a URL may lead to, comma between")
    outbound_redirects: int = Field(5, ge=0, le=20, description="redirects that are followed from one URL")
    video_fetch_bytes: int = Field(8 << 30, ge=1, description="largest video that is fetched")
    video_fetch_seconds: float = Field(600.0, gt=0, description="longest time for fetching a video")
    video_fetch_idle_seconds: float = Field(20.0, gt=0, description="longest silence of a server in the middle of it")

    # Media worker
    video_worker_admin_port: int = Field(8092, ge=1, le=65535, description="port of its /livez, /readyz, /metrics")
    video_output_folder: Path | None = Field(
        None, description="folder for posters and storyboards; default: thumbnails in the state folder"
    )
    video_gpu: int | None = Field(
        None, ge=0, description="number of the GPU that this media worker may use; default: the first that is good"
    )
    video_router_table: Path | None = Field(
        None,
        description="file of what the engines cost, as `bench crossover` writes it; default: router.json in the state "
        "folder where that is, else figures that come with the program",
    )
    video_keep_uploads: bool = Field(False, description="keep what was uploaded once its job has ended")
    video_attempts: int = Field(4, ge=1, le=100, description="attempts at a video before it counts as failed")
    video_retry_seconds: str = Field(
        "10,60,600", description="how long a video waits after its first failed attempt, its second, and later ones"
    )
    video_batch_every: int = Field(
        5, ge=2, le=1000, description="while both lanes wait, one of so many videos is taken from the lane batch"
    )
    video_job_seconds: float = Field(300.0, gt=0, description="longest time for one attempt at a video")
    video_drain_seconds: float = Field(20.0, ge=0, description="after SIGTERM, how long a video may still take")
    video_memory_bytes: int = Field(4 << 30, ge=1 << 30, description="address space of the process that decodes")
    video_max_bytes: int = Field(64 << 30, ge=1, description="largest file of a video")
    video_max_pixels: int = Field(8192 * 4608, ge=1, description="largest picture of a video, width times height")
    video_max_seconds: float = Field(86400.0, gt=0, description="longest video")
    video_max_streams: int = Field(64, ge=1, description="most streams in a video's file")

    @model_validator(mode="before")
    @classmethod
    def _local_broker(cls, values: Any) -> Any:
        """Without another address, Kafka is the local broker, on whatever port that is."""
        if isinstance(values, dict) and "kafka" not in values and "kafka_port" in values:
            return {**values, "kafka": f"127.0.0.1:{values['kafka_port']}"}
        return values

    @field_validator("kafka")
    @classmethod
    def _servers(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{server.strip()!r} is not of the form host:port")
        return value

    @field_validator("outbound_schemes")
    @classmethod
    def _schemes(cls, value: str) -> str:
        if not value or not {name.strip() for name in value.split(",")} <= {"http", "https"}:
            raise ValueError(f"{value!r} must be https, http or https,http")
        return value

    @field_validator("outbound_ports")
    @classmethod
    def _ports(cls, value: str) -> str:
        if not all(port.strip().isdigit() and 0 < int(port) < 65536 for port in value.split(",")):
            raise ValueError(f"{value!r} must be ports, comma between, such as 443,8443")
        return value

    @field_validator("video_retry_seconds")
    @classmethod
    def _delays(cls, value: str) -> str:
        try:
            delays = [float(part) for part in value.split(",")]
        except ValueError:
            delays = []
        if (
            len(delays) != RETRIES
            or not all(0 < delay <= LONGEST_RETRY for delay in delays)
            or sorted(delays) != delays
        ):
            raise ValueError(
                f"{value!r} must be {RETRIES} rising numbers of seconds, comma between, none above {LONGEST_RETRY}"
            )
        return value

    @field_validator("video_open")
    @classmethod
    def _open(cls, value: str) -> str:
        for name in filter(None, value.split(",")):
            if name.strip() not in OPENABLE:
                raise ValueError(f"{name.strip()!r} is none of {', '.join(OPENABLE)}")
        return value

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.flush_min_ms > self.flush_max_ms:
            raise ValueError("flush_min_ms is larger than flush_max_ms")
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas is larger than replication_factor")
        if self.collector_spool_seconds > self.raw_retention_hours * 3600:
            raise ValueError("collector_spool_seconds is more than raw_retention_hours")
        if self.collector_spool_bytes and self.collector_spool_after_seconds >= self.collector_wait_seconds:
            raise ValueError("collector_spool_after_seconds is not less than collector_wait_seconds")
        if self.collector_delivery_seconds < self.collector_request_seconds:
            raise ValueError("collector_delivery_seconds is less than collector_request_seconds")
        return self

    @property
    def video_retries(self) -> list[float]:
        """Seconds that a video waits after its first failed attempt, its second, and later ones."""
        return [float(part) for part in self.video_retry_seconds.split(",")]

    @property
    def other_readers(self) -> list[str]:
        """Consumer groups of other readers of events.raw."""
        return [name.strip() for name in self.raw_readers.split(",") if name.strip()]

    @property
    def secrets_kept(self) -> timedelta:
        """The hard limit of a secret's life, from its day or hour on: that of raw data, a spool's, and a margin."""
        return timedelta(hours=self.raw_retention_hours + 48, seconds=self.collector_spool_seconds)

    @property
    def sites(self) -> Path:
        """Folder of the sites' files."""
        return self.sites_dir or self.state / "sites.d"

    @property
    def spool(self) -> Path:
        """Folder of the collectors' spools."""
        return self.spool_dir or self.state / "spool"

    @property
    def users(self) -> Path:
        """File of the users who may ask for a token."""
        return self.users_file or self.state / "users.json"

    @property
    def master_key(self) -> Path:
        """File of the key that wraps the vault's keys."""
        return self.master_key_file or self.state / "master.key"

    def password_file(self, name: str) -> Path:
        """Where `up` keeps a password that it made for the local stack."""
        return self.state / "passwords" / name

    @property
    def api_token(self) -> Path:
        """File of the token that `up` made for the first site of the local stack."""
        return self.password_file("api_token")

    @property
    def videos(self) -> Path:
        """Folder that videos are taken from."""
        return self.video_folder or self.state / "videos"

    @property
    def thumbnails(self) -> Path:
        """Folder of the media workers' outputs."""
        return self.video_output_folder or self.state / "thumbnails"

    @property
    def webhook_secrets(self) -> Path:
        """Folder of the sites' webhook secrets."""
        return self.webhook_secrets_dir or self.state / "webhooks.d"

    @property
    def router_table(self) -> Path:
        """Where what the engines cost is written, and read where no other file is named."""
        return self.state / "router.json"

    @property
    def video_private(self) -> Path:
        """Folder of uploads, and of what the video path remembers of its jobs."""
        return self.video_private_folder or self.state / "private"

    @property
    def video_scratch(self) -> Path:
        """Folder of files that are not whole yet."""
        return self.video_scratch_folder or self.state / "scratch"

    @property
    def clickhouse(self) -> str:
        """Address of ClickHouse, or of the front over the embedded engine."""
        return self.clickhouse_url or f"http://{self.host}:{self.clickhouse_port}"

    def topic(self, name: str) -> str:
        """The name of a topic on this installation's broker."""
        return self.topic_prefix + name

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process; secrets included."""
        out = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            if value is not None:
                out[PREFIX + name.upper()] = str(value)
        return out

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if file := os.environ.get(CONFIG_FILE):
            sources += (TomlConfigSettingsSource(settings_cls, Path(file)),)
        return sources


def load_settings(**overrides: Any) -> Settings:
    """Settings of this process; raises SettingsError that names every wrong setting."""
    file = os.environ.get(CONFIG_FILE)
    if file and not Path(file).is_file():
        raise SettingsError(f"{CONFIG_FILE}={file}: there is no such file")
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in SECRETS:
        variable = PREFIX + name.upper()
        if name not in overrides and (path := os.environ.get(variable + "_FILE")):
            try:
                overrides[name] = Path(path).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{variable}_FILE={path}: {error.strerror}") from None
        known.add(variable + "_FILE")
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known | NOT_SETTINGS:
            raise SettingsError(f"{variable} is not a setting; see `veilstream settings` for their names")
    try:
        return _local_passwords(Settings(**overrides))
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = ".".join(str(part) for part in problem["loc"])
            lines.append(f"{PREFIX}{name.upper()}: {problem['msg']}" if name else problem["msg"])
        raise SettingsError("; ".join(lines)) from None


def _local_passwords(settings: Settings) -> Settings:
    """Passwords that are not set are those `up` made for the local stack, where it made them."""
    if settings.clickhouse_url:
        return settings
    found = {
        name: SecretStr(path.read_text().strip())
        for name in PASSWORDS
        if not getattr(settings, name).get_secret_value() and (path := settings.password_file(name)).is_file()
    }
    return settings.model_copy(update=found)
