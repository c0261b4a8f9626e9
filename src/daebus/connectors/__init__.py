"""Sources and sinks of pipelines over Redis and Valkey: streams and channels."""

from daebus.connectors.channel import ChannelSink, ChannelSource
from daebus.connectors.stream_sink import RedisStreamSink
from daebus.connectors.stream_source import RedisStreamSource

__all__ = ["ChannelSink", "ChannelSource", "RedisStreamSink", "RedisStreamSource"]
