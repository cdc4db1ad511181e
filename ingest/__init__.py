"""The collector: tracking requests in, packets on Kafka out, every answer after the acknowledgement."""
