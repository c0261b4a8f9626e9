"""Sources and sinks of pipelines over Redis and Valkey: streams and channels."""

from daebus.connectors.channel import ChannelSink, ChannelSource
from daebus.connectors.redis_stream import RedisStreamSink, RedisStreamSource

__all__ = ["ChannelSink", "ChannelSource", "RedisStreamSink", "RedisStreamSource"]
