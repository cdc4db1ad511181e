"""The contracts that processes share: Kafka records, the API's grammar, sites and policies, tables."""
