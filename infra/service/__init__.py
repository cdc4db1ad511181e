"""What every process shares: settings, logs, metrics, health, signals, clients of ClickHouse and the vault."""
