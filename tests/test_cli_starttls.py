"""`--starttls`: each protocol's words, and what is no answer to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantou import connect_stream
from mantou._cli.starttls import Refused, negotiate
from tests.cli import Server, files, mantou, read_all
from tests.tls import server_context


class Script(NamedTuple):
    """What the server says and what it must get, in turn, beginning with its words."""

    words: tuple[bytes, ...]
    refusal: bytes


MYSQL = b"\x0a8.0.1\0" + bytes(4) + b"12345678\0" + b"\xff\xff" + bytes(20)
MYSQL_PLAIN = MYSQL.replace(b"\xff\xff", b"\xff\xf7")
LDAP_OK = bytes.fromhex("300c02010178070a010004000400")
SCRIPTS = {
    "smtp": Script(
        (
            b"220-mail\r\n220 ready\r\n",
            b"EHLO localhost\r\n",
            b"250-mail\r\n250-STARTTLS\r\n250 SIZE 5\r\n",
            b"STARTTLS\r\n",
            b"220 go ahead\r\n",
        ),
        b"454 not now\r\n",
    ),
    "imap": Script((b"* OK hi\r\n", b"a STARTTLS\r\n", b"* note\r\na OK go\r\n"), b"a BAD no\r\n"),
    "pop3": Script((b"+OK hi\r\n", b"STLS\r\n", b"+OK go\r\n"), b"-ERR no\r\n"),
    "ftp": Script((b"220 hi\r\n", b"AUTH TLS\r\n", b"234 go\r\n"), b"502 no\r\n"),
    "postgres": Script((b"", bytes.fromhex("0000000804d2162f"), b"S"), b"N"),
    "mysql": Script(
        (
            len(MYSQL).to_bytes(3, "little") + b"\0" + MYSQL,
            bytes.fromhex("20000001008a0000000000012d") + bytes(23),
            b"",
        ),
        b"",
    ),
    "ldap": Script(
        (
            b"",
            bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037",
            LDAP_OK,
        ),
        LDAP_OK.replace(b"\x0a\x01\x00", b"\x0a\x01\x34"),
    ),
    "xmpp": Script(
        (
            b"",
            b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' "
            b"xmlns:stream='http://etherx.jabber.org/streams' to=\"localhost\">",
            b"<stream:stream><stream:features><starttls "
            b"xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
            b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ),
        b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ),
}


def play(sock: kernel.socket, words: tuple[bytes, ...]) -> None:
    for number, each in enumerate(words):
        if number % 2 == 0:
            # In pieces: nothing may depend on how they arrive.
            for start in range(0, len(each), 5):
                sock.sendall(each[start : start + 5])
        else:
            got = sock.recv(len(each), kernel.MSG_WAITALL)
            assert got == each


@pytest.mark.parametrize("protocol", SCRIPTS)
def test_after_its_words_it_is_tls(tmp_path: Path, protocol: str) -> None:
    context = server_context()

    def talk(sock: kernel.socket) -> None:
        play(sock, SCRIPTS[protocol].words)
        with context.wrap_socket(sock, server_side=True) as secure:
            secure.sendall(read_all(secure)[::-1])  # type: ignore[arg-type]
            secure.unwrap()

    ca, _, _ = files(tmp_path)
    with Server(talk) as server:
        address = f"localhost:{server.port}"
        done = mantou("connect", address, "--starttls", protocol, "--ca", ca, given=b"secret")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"terces", b"")


@pytest.mark.parametrize("protocol", SCRIPTS)
def test_a_refusal_is_told_and_nothing_is_sent_in_the_clear(protocol: str) -> None:
    script = SCRIPTS[protocol]
    words = (*script.words[:-1], script.refusal)
    if protocol == "mysql":
        words = (len(MYSQL_PLAIN).to_bytes(3, "little") + b"\0" + MYSQL_PLAIN,)
    rest = list[bytes]()

    def talk(sock: kernel.socket) -> None:
        play(sock, words)
        with contextlib.suppress(ConnectionResetError):
            rest.append(read_all(sock))

    with Server(talk) as server:
        address = f"localhost:{server.port}"
        done = mantou("connect", address, "--starttls", protocol, given=b"secret")
    assert done.returncode == 7
    assert f"--starttls {protocol}: the peer".encode() in done.stderr
    assert b"".join(rest) == b""


@pytest.mark.parametrize("protocol", SCRIPTS)
@pytest.mark.parametrize("rubbish", [b"\xff" * 5000, b"HTTP/1.0 400\r\n" * 101, b""])
def test_another_protocol_is_told(protocol: str, rubbish: bytes) -> None:
    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(rubbish)
            sock.shutdown(kernel.SHUT_WR)
            read_all(sock)

    with Server(talk) as server:
        done = mantou("connect", f"localhost:{server.port}", "--starttls", protocol)
    assert (done.returncode, len(done.stderr.splitlines())) == (7, 1)


@settings(deadline=None, max_examples=20)
@given(st.data())
@pytest.mark.parametrize("protocol", SCRIPTS)
def test_any_answer_is_taken_or_refused(protocol: str, data: st.DataObject) -> None:
    answers = bytearray(b"".join(SCRIPTS[protocol].words[::2]))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(answers)))
        answers[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))

    async def ask() -> None:
        ours, theirs = kernel.socketpair()
        with theirs:
            theirs.sendall(answers)
            theirs.shutdown(kernel.SHUT_WR)
            async with await connect_stream(fd=ours.detach()) as stream:
                with contextlib.suppress(Refused):
                    await negotiate(protocol, stream, "localhost")

    asyncio.run(ask())


def test_what_comes_in_the_clear_behind_the_words_is_never_taken() -> None:
    def talk(sock: kernel.socket) -> None:
        *before, last = SCRIPTS["smtp"].words
        play(sock, (*before, last + b"250 injected\r\n"))
        with contextlib.suppress(ConnectionError):
            read_all(sock)

    with Server(talk) as server:
        done = mantou("connect", f"localhost:{server.port}", "--starttls", "smtp", "--insecure")
    assert (done.returncode, done.stdout) == (4, b"")


def test_a_server_that_says_nothing_is_given_up() -> None:
    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(ConnectionError):
            read_all(sock)

    with Server(talk) as server:
        flags = ("--starttls", "imap", "--timeout", "0.3")
        done = mantou("connect", f"localhost:{server.port}", *flags)
    assert done.returncode == 6
