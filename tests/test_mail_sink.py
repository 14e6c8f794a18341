"""The mail sink of the examples: over every link, and with the clients that people use."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import pytest

from tests.peers import Peer
from tests.stage import every_link, stage
from tests.test_examples import exchange, program, serving
from tests.tls_support import CERTIFICATE, KEY, context

PORT = 2525


async def begin(peer: Peer) -> None:
    await exchange(
        peer,
        ("", "220 mail sink\r\n"),
        ("HELO me\r\n", "250 mail sink\r\n"),
        ("MAIL FROM:<ann@a.example> SIZE=5\r\n", "250 whatever you say\r\n"),
        ("rcpt to:<bo@b.example>\r\n", "250 I will not tell\r\n"),
        ("RCPT TO:<cy@c.example>\r\n", "250 I will not tell\r\n"),
        ("DATA\r\n", "354 end it with a dot\r\n"),
    )


@every_link
async def test_a_dialogue(link: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with stage(link) as here:
        await here.serve(program("mail_sink"), {"__name__": "__main__"}, "mail_sink.py")
        async with here.visitor(PORT) as peer:
            await begin(peer)
            # The dot of a line that begins with one is doubled; the last word comes in pieces.
            await peer.send(b"Subject: Hi\r\n\r\nBuns\r\n..\r\n...\r\n")
            await exchange(peer, (".", ""), ("\r\n", "250 shown\r\n"))
            await exchange(peer, ("DATA\r\n", "503 to whom?\r\n"))
            # Several at once, and the last.
            answers = "250 mail sink\r\n502 I do not know how\r\n221 bye\r\n"
            await exchange(peer, ("NOOP\r\nSTARTTLS\r\nQUIT\r\n", answers))
            assert await peer.receive_until_fin() == b""
        how = "TLSv1.3" if link in {"tls", "context"} else "in clear"
        output = capsys.readouterr().out
        assert f"--- ann@a.example to bo@b.example, cy@c.example, {how}, " in output
        assert output.endswith("Subject: Hi\n\nBuns\n.\n..\n")


@every_link
async def test_what_is_no_message_is_not_shown(
    link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage(link) as here:
        await here.serve(program("mail_sink"), {"__name__": "__main__"}, "mail_sink.py")
        capsys.readouterr()
        async with here.visitor(PORT) as peer:
            await begin(peer)
            await peer.send(b"cut off")
            peer.finish()
            assert await peer.receive_until_fin() == b""
        async with here.visitor(PORT) as peer:
            await begin(peer)
            await peer.send(b"x" * 5000)
            await exchange(peer, ("", "500 too long a line\r\n"))
            assert await peer.receive_until_fin() == b""
        async with here.visitor(PORT) as peer:
            await begin(peer)
            await peer.send((b"x" * 1000 + b"\r\n") * 10_500)
            await exchange(peer, (".\r\n", "552 too much of it\r\n"))
            await exchange(peer, ("QUIT\r\n", "221 bye\r\n"))
        assert capsys.readouterr().out == ""


def test_smtplib_with_starttls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(CERTIFICATE)
    key.write_text(KEY)
    with serving("mail_sink", "--cert", str(cert), "--key", str(key)) as port:
        with smtplib.SMTP("localhost", port) as client:
            client.ehlo()
            assert client.has_extn("starttls")
            client.starttls(context=context(False))
            client.ehlo()
            assert not client.has_extn("starttls")
            assert client.sendmail("a@a.example", ["b@b.example"], "Subject: x\n\nHello!") == {}
        # What was sent behind the command in clear is no command.
        with smtplib.SMTP("localhost", port) as client:
            client.send(b"STARTTLS\r\nMAIL FROM:<mallory@m.example>\r\n")
            assert client.getreply()[0] == 220
            assert client.sock is not None
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context(False).wrap_socket(client.sock, server_hostname="localhost")
            client.close()
        with smtplib.SMTP("localhost", port) as client:
            assert client.noop()[0] == 250
