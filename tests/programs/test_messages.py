"""Mail, messages and calls: aiosmtpd, aiomqtt, pyzmq and grpclib."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiomqtt
import grpclib.client
import grpclib.const
import grpclib.encoding.base
import grpclib.exceptions
import grpclib.server
import pytest
import zmq
import zmq.asyncio
from aiosmtpd.smtp import SMTP

from tests.programs.conftest import Certificates
from tests.programs.servers import Mosquitto

LARGE = "".join(f"line {number} of a long message\r\n" for number in range(20000))

# aiosmtpd


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, envelope.content))
        return "250 taken"


@pytest.mark.parametrize("secure", ["plain", "starttls", "tls"])
async def test_aiosmtpd(certificates: Certificates, secure: str) -> None:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    context = certificates.server()
    starttls = {"tls_context": context, "require_starttls": True} if secure == "starttls" else {}
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", loop=loop, **starttls),
        "127.0.0.1",
        0,
        ssl=context if secure == "tls" else None,
    )
    port = server.sockets[0].getsockname()[1]

    def send(number: int) -> None:
        client: smtplib.SMTP
        if secure == "tls":
            client = smtplib.SMTP_SSL("localhost", port, context=certificates.client(), timeout=30)
        else:
            client = smtplib.SMTP("localhost", port, timeout=30)
        with client:
            if secure == "starttls":
                with pytest.raises(smtplib.SMTPSenderRefused):
                    client.sendmail("a@localhost", "b@localhost", "no")
                client.starttls(context=certificates.client())
            message = EmailMessage()
            message["From"], message["To"] = "a@localhost", f"b{number}@localhost"
            message.set_content(LARGE)
            client.send_message(message)

    async with server:
        await asyncio.gather(*(asyncio.to_thread(send, number) for number in range(4)))
    assert sorted(to for to, _ in mailbox.mails) == [
        [f"b{number}@localhost"] for number in range(4)
    ]
    assert all(b"line 19999 of" in content for _, content in mailbox.mails)


# aiomqtt


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_aiomqtt(mosquitto: Mosquitto, certificates: Certificates, secure: bool) -> None:
    options: dict[str, Any] = {"hostname": "localhost", "port": mosquitto.port}
    if secure:
        options |= {"port": mosquitto.tls_port, "tls_context": certificates.client()}
    async with aiomqtt.Client(**options) as reader, aiomqtt.Client(**options) as writer:
        await reader.subscribe("rooms/+/temperature", qos=1)
        payloads = [b"%d" % number * 500 for number in range(100)]
        await asyncio.gather(
            *(
                writer.publish(f"rooms/{number}/temperature", payload, qos=1)
                for number, payload in enumerate(payloads)
            )
        )
        found = {}
        async for message in reader.messages:
            found[int(str(message.topic).split("/")[1])] = message.payload
            if len(found) == len(payloads):
                break
        assert [found[number] for number in range(100)] == payloads


# pyzmq


@pytest.mark.parametrize("link", ["tcp", "ipc"])
async def test_pyzmq(tmp_path: Path, link: str) -> None:
    with zmq.asyncio.Context() as context:
        server = context.socket(zmq.ROUTER)
        address = f"ipc://{tmp_path}/socket"
        if link == "tcp":
            address = f"tcp://127.0.0.1:{server.bind_to_random_port('tcp://127.0.0.1')}"
        else:
            server.bind(address)

        async def serve() -> None:
            while True:
                sender, empty, body = await server.recv_multipart()
                await server.send_multipart([sender, empty, body[::-1]])

        async def ask(number: int) -> None:
            with context.socket(zmq.REQ) as client:
                client.connect(address)
                for size in (1, 1000, 300000):
                    body = bytes([number]) + b"x" * size
                    await client.send(body)
                    assert await client.recv() == body[::-1]

        serving = asyncio.create_task(serve())
        await asyncio.gather(*(ask(number) for number in range(20)))
        with context.socket(zmq.PULL) as silent:
            silent.bind_to_random_port("tcp://127.0.0.1")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await silent.recv()
        serving.cancel()
        await asyncio.wait([serving])
        server.close(0)


# grpclib


class Bytes(grpclib.encoding.base.CodecBase):
    """Messages as they are: what is tested is how they travel."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: type) -> bytes:
        return message

    def decode(self, data: bytes, message_type: type) -> bytes:
        return data


class Service:
    async def reverse(self, stream: grpclib.server.Stream[bytes, bytes]) -> None:
        message = await stream.recv_message()
        assert message is not None
        if message == b"fail":
            raise grpclib.exceptions.GRPCError(grpclib.const.Status.DATA_LOSS, "lost")
        await stream.send_message(message[::-1])

    async def echo(self, stream: grpclib.server.Stream[bytes, bytes]) -> None:
        async for message in stream:
            await stream.send_message(message)

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        kinds = grpclib.const.Cardinality
        return {
            "/test.Service/Reverse": grpclib.const.Handler(
                self.reverse, kinds.UNARY_UNARY, bytes, bytes
            ),
            "/test.Service/Echo": grpclib.const.Handler(
                self.echo, kinds.STREAM_STREAM, bytes, bytes
            ),
        }


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_grpclib(certificates: Certificates, secure: bool) -> None:
    def with_h2(context: ssl.SSLContext) -> ssl.SSLContext:
        context.set_alpn_protocols(["h2"])
        return context

    server = grpclib.server.Server([Service()], codec=Bytes())
    await server.start("127.0.0.1", 0, ssl=with_h2(certificates.server()) if secure else None)
    port = server._server.sockets[0].getsockname()[1]  # grpclib does not tell
    channel = grpclib.client.Channel(
        "localhost", port, codec=Bytes(), ssl=with_h2(certificates.client()) if secure else None
    )
    async with channel:
        reverse = grpclib.client.UnaryUnaryMethod(channel, "/test.Service/Reverse", bytes, bytes)
        messages = [bytes([number]) * 30000 + b"end" for number in range(100)]
        answers = await asyncio.gather(*(reverse(message) for message in messages))
        assert answers == [message[::-1] for message in messages]
        with pytest.raises(grpclib.exceptions.GRPCError, match="lost"):
            await reverse(b"fail")
        echo = grpclib.client.StreamStreamMethod(channel, "/test.Service/Echo", bytes, bytes)
        async with echo.open() as stream:
            for message in messages:
                await stream.send_message(message)
                assert await stream.recv_message() == message
            await stream.end()
            assert await stream.recv_message() is None
    server.close()
    await server.wait_closed()
