"""The PROXY protocol, spoken with HAProxy in front of our listeners and behind our clients."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import mantou
from tests.programs.conftest import Certificates
from tests.programs.servers import free_port, haproxy

ALL = "ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id"


class Server(mantou.SocketHandler[Any]):
    """Echoes, and keeps what it was told of who came."""

    def __init__(self) -> None:
        self.headers: asyncio.Queue[mantou.ProxyHeader | None] = asyncio.Queue()
        self.peers: list[tuple[str | None, int | None]] = []

    def open(self, socket: mantou.Socket[Any]) -> None:
        self.peers.append((socket.remote_address, socket.remote_port))
        self.headers.put_nowait(socket.proxy)

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        socket.write_all(data)

    def connect_error(self, socket: mantou.Socket[Any], error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "", "exception": error})


@asynccontextmanager
async def listening(server: Server, **options: Any) -> AsyncIterator[Any]:
    where = {} if "unix" in options else {"hostname": "127.0.0.1", "port": 0}
    listener = mantou.listen(socket=server, proxy_protocol="require", **where, **options)
    try:
        yield listener
    finally:
        listener.stop(True)
        await listener.closed()


async def echoed(port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> int:
    """Has much echoed, by way of HAProxy; returns our own port."""
    name = None if tls is None else "localhost"
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)
    payload = bytes(range(256)) * 1000
    writer.write(payload)
    assert await reader.readexactly(len(payload)) == payload
    own: int = writer.get_extra_info("sockname")[1]
    writer.close()
    await writer.wait_closed()
    return own


def front(port: int, server: str, bind: str = "") -> str:
    return (
        f"frontend front\n bind 127.0.0.1:{port} {bind}\n bind [::1]:{port} {bind}\n"
        " unique-id-format id-%cp\n default_backend back\n"
        f"backend back\n server us {server}\n"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)
async def test_behind_haproxy(
    tmp_path: Path, certificates: Certificates, host: str, secure: bool, send: str
) -> None:
    server, port = Server(), free_port()
    tls: dict[str, Any] = {}
    if secure:
        tls = {"tls": {"cert_file": certificates.cert_file, "key_file": certificates.key_file}}
        send += " ssl verify none"
    async with listening(server, proxy_trusted=["127.0.0.0/8"], **tls) as listener:
        with haproxy(tmp_path, front(port, f"127.0.0.1:{listener.port} {send}")):
            own = await echoed(port, host=host)
    header = server.headers.get_nowait()
    assert header is not None
    assert header.version == (2 if "v2" in send else 1)
    assert (header.source_address, header.source_port) == (host, own)
    assert (header.destination_address, header.destination_port) == (host, port)
    assert server.peers == [(host, own)]
    assert header.crc32c is ("crc32c" in send)
    assert header.unique_id == (b"id-%d" % own if "unique-id" in send else None)
    assert header.ssl is None


async def test_behind_haproxy_on_a_unix_socket(tmp_path: Path) -> None:
    server, port = Server(), free_port()
    async with listening(server, unix=tmp_path / "us"):
        with haproxy(tmp_path, front(port, f"unix@{tmp_path}/us send-proxy-v2")):
            own = await echoed(port)
    assert server.peers == [("127.0.0.1", own)]


def _client(certificates: Certificates, folder: Path) -> ssl.SSLContext:
    """A client that has a certificate."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "clients.pem")
    context = certificates.client()
    authority.issue_cert("client.example", common_name="client.example").configure_cert(context)
    return context


@pytest.mark.parametrize("contexts", [False, True])
@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize(
    "send", ["send-proxy-v2-ssl", "send-proxy-v2-ssl-cn", f"send-proxy-v2 proxy-v2-options {ALL}"]
)
async def test_what_haproxy_tells_of_tls(
    tmp_path: Path, certificates: Certificates, send: str, shows: bool, contexts: bool
) -> None:
    server, port = Server(), free_port()
    context = _client(certificates, tmp_path)
    if not shows:
        context = certificates.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    pem = tmp_path / "both.pem"
    pem.write_bytes(certificates.cert_file.read_bytes() + certificates.key_file.read_bytes())
    bind = f"ssl crt {pem} ca-file {tmp_path}/clients.pem verify optional"
    # TLS from end to end, too: what HAProxy tells is of the client's.
    tls: dict[str, Any] = {"tls": certificates.server()} if contexts else {}
    options = " ssl verify none" if contexts else ""
    async with listening(server, **tls) as listener:
        back = f"127.0.0.1:{listener.port} {send}{options}"
        with haproxy(tmp_path, front(port, back, bind)):
            own = await echoed(port, context)
    header = server.headers.get_nowait()
    assert header is not None
    assert server.peers == [("127.0.0.1", own)]
    told = header.ssl
    assert told is not None
    assert told.ssl
    assert told.version == "TLSv1.2"
    assert told.cert_conn is told.cert_sess is told.verified is shows
    everything = ALL in send
    named = shows and (everything or "-cn" in send)
    assert told.cn == ("client.example" if named else None)
    if everything:
        assert header.authority == "localhost"
        assert header.crc32c
        assert header.unique_id == b"id-%d" % own
        assert told.cipher is not None
        assert "ECDHE" in told.cipher
        assert told.sig_alg is not None
        assert told.key_alg is not None


async def test_health_checks_come_from_haproxy_itself(tmp_path: Path) -> None:
    server, port = Server(), free_port()
    async with listening(server) as listener:
        back = f"127.0.0.1:{listener.port} send-proxy-v2 check inter 100ms"
        with haproxy(tmp_path, front(port, back)):
            header = await server.headers.get()
            assert header is not None
            assert header.command == "LOCAL"
            assert server.peers[0][0] == "127.0.0.1"


# HAProxy behind us

WHO = "%[src]|%[src_port]|%[dst]|%[dst_port]|%[fc_pp_authority]|%[fc_pp_unique_id,hex]"
HEADER = mantou.ProxyHeader(
    source_address="192.0.2.1",
    source_port=1234,
    destination_address="198.51.100.2",
    destination_port=443,
    authority="host.example",
    unique_id=b"\x01\x02",
    ssl=mantou.ProxySSL(version="TLSv1.3", cn="client"),
    crc32c=True,
    tlvs={0xE0: b"own"},
)
LINE = mantou.ProxyHeader(
    version=1,
    source_address="2001:db8::1",
    source_port=1,
    destination_address="2001:db8::2",
    destination_port=2,
)


class Client(mantou.SocketHandler[Any]):
    def __init__(self) -> None:
        self.answer = bytearray()
        self.closed = asyncio.Event()

    def open(self, socket: mantou.Socket[Any]) -> None:
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n")

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        self.answer += data

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        self.closed.set()


async def heard(**options: Any) -> tuple[str, mantou.Socket[Any]]:
    """What HAProxy says of who has connected."""
    client = Client()
    socket = await mantou.connect(socket=client, **options)
    await client.closed.wait()
    head, _, body = client.answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200"), client.answer
    return body.strip(), socket


@pytest.mark.parametrize("link", ["tcp", "unix", "tls", "context"])
@pytest.mark.parametrize(
    "header, expected",
    [
        (HEADER, lambda own, port: "192.0.2.1|1234|198.51.100.2|443|host.example|0102"),
        (LINE, lambda own, port: "2001:db8::1|1|2001:db8::2|2||"),
        (True, lambda own, port: f"127.0.0.1|{own}|127.0.0.1|{port}||"),
    ],
    ids=["v2", "v1", "True"],
)
async def test_haproxy_behind_us(
    tmp_path: Path,
    certificates: Certificates,
    link: str,
    header: Any,
    expected: Callable[[int | None, int], str],
) -> None:
    port, tls_port = free_port(), free_port()
    pem = tmp_path / "both.pem"
    pem.write_bytes(certificates.cert_file.read_bytes() + certificates.key_file.read_bytes())
    configuration = (
        f"frontend front\n mode http\n bind 127.0.0.1:{port} accept-proxy\n"
        f" bind 127.0.0.1:{tls_port} accept-proxy ssl crt {pem}\n"
        f" bind unix@{tmp_path}/front accept-proxy\n"
        f' http-request return status 200 content-type text/plain lf-string "{WHO}"\n'
    )
    way: dict[str, Any] = {"hostname": "127.0.0.1", "port": port}
    if link == "unix":
        way = {"unix": tmp_path / "front"}
    elif link != "tcp":
        port = tls_port
        tls: Any = {"ca_file": certificates.ca_file, "server_name": "localhost"}
        way |= {"port": port, "tls": tls if link == "tls" else certificates.client()}
    with haproxy(tmp_path, configuration):
        answer, socket = await heard(proxy_header=header, **way)
    if link == "unix" and header is True:
        # A unix socket has no addresses.
        assert answer == "|||||"
    else:
        assert answer == expected(socket.local_port, port)


async def test_a_proxy_of_ours_between_two_of_haproxys(tmp_path: Path) -> None:
    """What the first says of the client is what the last one hears."""
    first, last = free_port(), free_port()

    class Proxy(mantou.SocketHandler[Any]):
        async def open(self, socket: mantou.Socket[Any]) -> None:
            answer, _ = await heard(hostname="127.0.0.1", port=last, proxy_header=socket)
            socket.end(answer)

    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Proxy(), proxy_protocol="require")
    options = "send-proxy-v2 proxy-v2-options crc32c,unique-id"
    configuration = front(first, f"127.0.0.1:{listener.port} {options}") + (
        f"frontend last\n mode http\n bind 127.0.0.1:{last} accept-proxy\n"
        f' http-request return status 200 content-type text/plain lf-string "{WHO}"\n'
    )
    with listener, haproxy(tmp_path, configuration):
        reader, writer = await asyncio.open_connection("127.0.0.1", first)
        own = writer.get_extra_info("sockname")[1]
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
    unique_id = (b"id-%d" % own).hex().upper()
    assert answer == f"127.0.0.1|{own}|127.0.0.1|{first}||{unique_id}"
