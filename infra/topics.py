"""Makes the installation's topics on the broker, and tells where a topic differs from its definition."""

from __future__ import annotations

from kafka.admin import KafkaAdminClient
from kafka.errors import NoError, TopicAlreadyExistsError, for_code

from infra.service.settings import Settings
from schemas.topics import Topic, definitions


def wanted(settings: Settings) -> list[Topic]:
    """The topics of these settings."""
    return definitions(
        prefix=settings.topic_prefix,
        events_partitions=settings.events_partitions,
        replication=settings.replication_factor,
        min_insync=settings.min_insync_replicas,
        raw_retention_hours=settings.raw_retention_hours,
        video_partitions=settings.video_partitions,
    )


def ensure(settings: Settings) -> list[str]:
    """Make the topics that are missing; returns their names. Existing topics are left as they are."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.split(","))
    try:
        present = set(admin.list_topics())
        missing = {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication,
                "configs": topic.config,
            }
            for topic in wanted(settings)
            if topic.name not in present
        }
        answers = admin.create_topics(missing, raise_errors=False)["topics"] if missing else []
        made = []
        for answer in answers:
            error = for_code(answer["error_code"])
            if error is NoError:
                made.append(answer["name"])
            elif error is not TopicAlreadyExistsError:  # that: another process makes them at the same time
                raise error(f"topic {answer['name']}: {answer.get('error_message') or error.description}")
        return made
    finally:
        admin.close()
