"""A mail server that delivers nothing: it shows what programs send, for those who write them.

    python examples/mail_sink.py
    python examples/mail_sink.py --cert cert.pem --key key.pem     (with STARTTLS)
    python -c "import smtplib; smtplib.SMTP('127.0.0.1', 2525).sendmail('a@b', 'c@d', 'Hello!')"

A dialogue is one coroutine, from the greeting to the last word, and after STARTTLS it goes on with
another stream. What had come behind that command in clear is taken for TLS, and so for nonsense.
"""

from __future__ import annotations

import argparse
import contextlib
import ssl

import mantou

LONGEST_LINE = 2000  # bytes; RFC 5321 asks for 1000
LARGEST_MESSAGE = 10 * 1024 * 1024
PATIENCE = 300.0  # seconds of silence
GONE = (mantou.BrokenResourceError, ConnectionError, TimeoutError, ssl.SSLError)


class Session:
    """A client, what it may do, and the message that it is about to send."""

    def __init__(self, stream: mantou.Stream, tls: mantou.TLSOptions | None) -> None:
        self._listen_to(stream)
        self.tls = tls  # that can still be begun
        self._forget()

    def _listen_to(self, stream: mantou.Stream) -> None:
        self.stream = stream
        self.lines = stream.lines(LONGEST_LINE)

    def _forget(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []

    async def talk(self) -> None:
        await self._say("220 mail sink")
        try:
            while (line := await anext(self.lines, None)) is not None:
                command, _, rest = line.decode("utf-8", "replace").partition(" ")
                if not await self._obey(command.upper(), rest):
                    break
        except mantou.DelimiterNotFound:
            await self._say("500 too long a line")
        await self.stream.aclose()

    async def _say(self, *lines: str) -> None:
        """All but the last line of an answer have a dash: that more will come."""
        more = [f"{line[:3]}-{line[4:]}" for line in lines[:-1]]
        await self.stream.send("".join(f"{line}\r\n" for line in [*more, lines[-1]]))

    async def _obey(self, command: str, rest: str) -> bool:
        """Whether the dialogue goes on."""
        match command:
            case "EHLO":
                offers = ["250 STARTTLS"] if self.tls is not None else []
                await self._say("250 mail sink", *offers, f"250 SIZE {LARGEST_MESSAGE}")
            case "STARTTLS" if self.tls is not None:
                await self._say("220 go ahead")
                tls, self.tls = self.tls, None
                self._listen_to(await self.stream.upgrade_tls(tls=tls))
                self._forget()
            case "MAIL" if rest.upper().startswith("FROM:"):
                self._forget()
                self.sender = address(rest)
                await self._say("250 whatever you say")
            case "RCPT" if self.sender is None:
                await self._say("503 from whom?")
            case "RCPT" if rest.upper().startswith("TO:"):
                self.recipients.append(address(rest))
                await self._say("250 I will not tell")
            case "DATA" if not self.recipients:
                await self._say("503 to whom?")
            case "DATA":
                await self._say("354 end it with a dot")
                await self._take_message()
            case "RSET":
                self._forget()
                await self._say("250 forgotten")
            case "HELO" | "NOOP":
                await self._say("250 mail sink")
            case "QUIT":
                await self._say("221 bye")
                return False
            case _:
                await self._say("502 I do not know how")
        return True

    async def _take_message(self) -> None:
        message, size = [], 0
        async for line in self.lines:
            if line == b".":
                break
            size += len(line) + 2
            if size <= LARGEST_MESSAGE:
                message.append(line.removeprefix(b"."))
        else:
            return  # cut off: that was no message
        if size > LARGEST_MESSAGE:
            await self._say("552 too much of it")
            return
        how = self.stream.socket.get_tls_version() or "in clear"
        print(f"--- {self.sender} to {', '.join(self.recipients)}, {how}, {size} bytes")
        print(b"\n".join(message).decode("utf-8", "replace"), flush=True)
        self._forget()
        await self._say("250 shown")


def address(rest: str) -> str:
    """What stands in angle brackets, or behind the colon; parameters are for others."""
    words = rest.partition(":")[2].split()
    return words[0].strip("<>") if words else ""


async def main(hostname: str, port: int, tls: mantou.TLSOptions | None) -> None:
    async def serve(stream: mantou.Stream) -> None:
        # Whoever vanishes, stays silent or cannot agree on TLS need not be told of.
        with contextlib.suppress(*GONE):
            await Session(stream, tls).talk()

    async with mantou.serve_streams(
        serve, hostname=hostname, port=port, idle_timeout=PATIENCE
    ) as server:
        print(f"listening on {hostname}:{server.port}", flush=True)
        await server.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A mail server that shows messages.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525, help="2525; 0 picks a free one")
    parser.add_argument("--cert", help="a certificate, in PEM: offers STARTTLS")
    parser.add_argument("--key", help="its key")
    options = parser.parse_args()
    secure: mantou.TLSOptions | None = None
    if options.cert:
        secure = {"cert_file": options.cert, "key_file": options.key}
    try:
        mantou.run(main(options.hostname, options.port, secure))
    except KeyboardInterrupt:
        print("bye")
