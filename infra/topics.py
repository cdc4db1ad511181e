"""Makes the installation's topics on the broker, and tells where a topic differs from its definition."""

from __future__ import annotations

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

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
        made = []
        for topic in wanted(settings):
            if topic.name in present:
                continue
            new = NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.config)
            try:
                admin.create_topics([new])
            except TopicAlreadyExistsError:
                continue
            made.append(topic.name)
        return made
    finally:
        admin.close()
