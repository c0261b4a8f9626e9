"""sentinel://: find the server that is the master now, by asking Sentinel, at each connection.

After a failover Sentinel closes the connections to the old master, and a link that comes back asks
again (https://valkey.io/topics/sentinel-clients/).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from daebus.errors import ServerUnavailable, SettingsError

SCHEMES = ("sentinel://", "sentinels://")

#: Where Sentinel listens, unless it is told otherwise.
PORT = 26379

#: How long one Sentinel may take to answer before the next one is asked, in seconds.
ASK_S = 1.0


def check_sentinel_url(url: str, shown: str) -> None:
    """Raise when an address does not say which Sentinels to ask for which master.

    Raises:
        SettingsError: it does not; the text says what it looks like.
    """
    _parse(url, shown)


def master_url(url: str, shown: str) -> str:
    """The address of the master.

    Args:
        url: `sentinel://user:password@host1:port1,host2:port2/MASTER/DB?options`; user, password,
            database and options are those of the master. With `sentinels://` both speak TLS.
        shown: the address without its password.

    Raises:
        SettingsError: the address makes no sense.
        ServerUnavailable: no Sentinel answers, or none knows this master.
    """
    parts, sentinels, master, database = _parse(url, shown)
    is_tls = parts.scheme == "sentinels"
    ask: Any = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs={
            "socket_timeout": ASK_S,
            "socket_connect_timeout": ASK_S,
            "retry": Retry(NoBackoff(), 0),
            "ssl": is_tls,
        },
    )
    try:
        host, port = ask.discover_master(master)
    except MasterNotFoundError as error:
        raise ServerUnavailable(shown, f"no Sentinel names a master {master!r}: {error}") from None
    except redis.RedisError as error:
        raise ServerUnavailable(shown, f"no Sentinel answers: {error}") from None
    finally:
        for each in ask.sentinels:
            each.close()
    credentials, at, _ = parts.netloc.rpartition("@")
    query = f"?{parts.query}" if parts.query else ""
    place = f"[{host}]" if ":" in str(host) else host
    return f"redis{'s' if is_tls else ''}://{credentials}{at}{place}:{port}/{database}{query}"


def check_master(connection: Any, shown: str) -> None:
    """Raise when a server is not the master, though Sentinel still says so during a failover.

    Args:
        connection: redis-py's, connected.
        shown: the address without its password.

    Raises:
        ServerUnavailable: it is a replica.
    """
    connection.send_command("ROLE")
    try:
        role = connection.read_response()
    except redis.ResponseError:
        return  # A user without the right to ask goes by what Sentinel says.
    if role[0] != b"master":
        connection.disconnect()
        raise ServerUnavailable(shown, "the server is a replica now; Sentinel is asked again")


def _parse(url: str, shown: str) -> tuple[SplitResult, list[tuple[str, int]], str, str]:
    parts = urlsplit(url)
    master, _, database = parts.path.strip("/").partition("/")
    sentinels = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = place.rpartition(":") if ":" in place else (place, "", str(PORT))
        if not host or not port.isdecimal():
            raise _unreadable(shown)
        sentinels.append((host, int(port)))
    if not master or not (database or "0").isdecimal():
        raise _unreadable(shown)
    return parts, sentinels, unquote(master), database or "0"


def _unreadable(shown: str) -> SettingsError:
    return SettingsError(
        f"{shown} is no address of a master; it looks like "
        f"sentinel://host1:{PORT},host2:{PORT}/MASTER or …/MASTER/DATABASE"
    )
