"""The local stack: a Kafka broker, the embedded ClickHouse, collector and stream worker under one supervisor."""
