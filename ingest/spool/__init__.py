"""What keeps acknowledged packets while Kafka is away: a log on disk per collector process, drained in order.

`records` is how a packet lies in a file, `log` one process's files and their lock, `spool` the collector's view of its
own log and of those it inherited.
"""
