"""What hostile peers do.

Each attack is a context: within it all of its peers are connected, and have done what they do. It
yields the bytes that they have sent. Every now and then it has somebody else's heart beat.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import socket as kernel
import ssl
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.hostile.forging import ALERT, APPLICATION_DATA, HANDSHAKE, Forger, send_all
from tests.hostile.hello import client_hello, record
from tests.hostile.victim import LIMIT, Victim
from tests.tls import client_context, key_pem, server_context

Beat = Callable[[], object]
Attack = Callable[[Victim, int, Beat], contextlib.AbstractContextManager[int]]

# A heart beats behind so many peers, or so many pieces of what one sends.
BEAT = 50
MIB = 1 << 20
# Of a peer that is given up, because nobody reads what it says.
PATIENCE = 0.5


def _attack(act: Callable[..., Iterator[int]]) -> Callable[..., Attack]:
    """Makes a kind of attack of a function that also takes what there is to choose."""

    def of(**choices: Any) -> Attack:
        return contextlib.contextmanager(functools.partial(act, **choices))

    return of


@contextlib.contextmanager
def _crowd(victim: Victim, count: int, beat: Beat, words: Callable[[], bytes]) -> Iterator[int]:
    """Peers that say something and are silent then."""
    sent = 0
    with contextlib.ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(victim.dial())
            sent += send_all(sock, words())
            if number % BEAT == 0:
                beat()
        beat()
        yield sent


def _drip(sock: kernel.socket, pieces: list[bytes], beat: Beat) -> int:
    """Sends one piece after the other, each in a segment of its own."""
    sent = 0
    for number, piece in enumerate(pieces):
        n = send_all(sock, piece)
        sent += n
        if n < len(piece):
            break
        if number % BEAT == 0:
            beat()
    return sent


def _single(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


# Before and in the handshake


@_attack
def says(victim: Victim, count: int, beat: Beat, *, words: Callable[[], bytes]) -> Iterator[int]:
    with _crowd(victim, count, beat, words) as sent:
        yield sent


def nothing() -> bytes:
    return b""


def half_a_hello() -> bytes:
    return record(HANDSHAKE, client_hello())[:100]


def half_a_record() -> bytes:
    """All of a record but the last byte."""
    return record(HANDSHAKE, client_hello(padding=16_000)[:16_384])[:-1]


def hello_with(share: tuple[int, bytes]) -> Callable[[], bytes]:
    return lambda: record(HANDSHAKE, client_hello(share))


def tiny_records() -> bytes:
    """A ClientHello of 64 KiB without its last byte, in records of one byte."""
    message = client_hello(padding=65_000)
    return b"".join(record(HANDSHAKE, byte) for byte in _single(message[:-1]))


def some_tiny_records() -> bytes:
    """As many as are waited for."""
    return tiny_records()[: 120 * 1024]


@_attack
def drips(
    victim: Victim,
    count: int,
    beat: Beat,
    *,
    words: Callable[[], bytes],
    behind: bytes = b"",
) -> Iterator[int]:
    """One byte at a time, and never the last one. Only those count, not what goes before them."""
    with contextlib.ExitStack() as stack:
        sent = 0
        for _ in range(count):
            sock = stack.enter_context(victim.dial())
            sock.sendall(behind)
            sent += _drip(sock, _single(words()), beat)
        yield sent


# Certificates


@_attack
def shows(
    victim: Victim, count: int, beat: Beat, *, context: Callable[[], ssl.SSLContext]
) -> Iterator[int]:
    """Clients with a certificate, or a chain of them, that is work."""
    made, sent = context(), 0
    for number in range(count):
        with victim.dial() as sock, contextlib.suppress(OSError):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            talk = made.wrap_bio(incoming, outgoing, server_hostname="localhost")
            for _ in range(3):
                with contextlib.suppress(ssl.SSLWantReadError):
                    talk.do_handshake()
                sent += send_all(sock, outgoing.read())
                incoming.write(sock.recv(65536))
        if number % BEAT == 0:
            beat()
    yield sent


@functools.cache
def crowd_of_certificates() -> ssl.SSLContext:
    """Nine that could be in any order, and as many others as a handshake takes."""
    keys = [ed25519.Ed25519PrivateKey.generate() for _ in range(10)]
    same = [_certificate("same", "same", key, key) for key in keys[:9]]
    others = [_certificate(f"other {n}", "nobody", keys[9], keys[9]) for n in range(220)]
    leaf = _certificate("leaf", "same", keys[9], keys[9], is_ca=False)
    made = client_context()
    with tempfile.NamedTemporaryFile() as file:
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in [leaf, *others, *same])
        file.write(key_pem(keys[9]) + chain)
        file.flush()
        made.load_cert_chain(file.name)
    return made


def _certificate(
    subject: str, issuer: str, key: Any, signer: Any, is_ca: bool = True
) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    public = key if isinstance(key, rsa.RSAPublicKey) else key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(signer, None)
    )


@_attack
def forges(
    victim: Victim, count: int, beat: Beat, *, messages: Callable[[], list[bytes]]
) -> Iterator[int]:
    """Clients that send something else for their last flight."""
    sent = 0
    said = messages()
    with contextlib.ExitStack() as stack:
        for number in range(count):
            forger = Forger(stack.enter_context(victim.dial()), tls13(), in_handshake=True)
            sent += forger.send(HANDSHAKE, *said)
            if number % BEAT == 0:
                beat()
        yield sent


def huge_key() -> list[bytes]:
    """A certificate with an RSA key of 8,192 bits, and a signature to be checked with it."""
    modulus = (1 << 8192) - 1
    key = rsa.RSAPublicNumbers((1 << 33) - 1, modulus).public_key()
    signer = ed25519.Ed25519PrivateKey.generate()
    shown = _certificate("huge", "huge", key, signer, is_ca=False).public_bytes(Encoding.DER)
    listed = len(shown).to_bytes(3, "big") + shown + b"\0\0"
    # rsa_pss_rsae_sha256
    signed = b"\x08\x04" + struct.pack("!H", 1024) + bytes([1]) * 1024
    certificates = _message(11, b"\0" + len(listed).to_bytes(3, "big") + listed)
    return [*_in_records(certificates), _message(15, signed)]


def compressed_certificate() -> list[bytes]:
    """16 MiB of nothing as a certificate of some KiB, which nobody has offered to take."""
    packed = zlib.compress(bytes(16 * MIB - 1), 9)
    said = struct.pack("!H", 1) + (16 * MIB - 1).to_bytes(3, "big")
    return _in_records(_message(25, said + len(packed).to_bytes(3, "big") + packed))


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def _in_records(message: bytes) -> list[bytes]:
    return [message[at : at + 16_000] for at in range(0, len(message), 16_000)]


def tls13() -> ssl.SSLContext:
    return client_context(version=ssl.TLSVersion.TLSv1_3)


def tls12() -> ssl.SSLContext:
    made = client_context(version=ssl.TLSVersion.TLSv1_2)
    made.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    return made


# In a session


Batch = Callable[[Forger], bytes]


@_attack
def floods(
    victim: Victim,
    count: int,
    beat: Beat,
    *,
    batch: Batch,
    most: int,
    context: Callable[[], ssl.SSLContext] = tls13,
) -> Iterator[int]:
    """Clients that send such batches until so many bytes were taken, and read nothing."""
    with contextlib.ExitStack() as stack:
        sent = 0
        for _ in range(count):
            forger = Forger(stack.enter_context(victim.dial()), context())
            forger.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 4096)
            forger.sock.settimeout(PATIENCE)
            sent += _flood(forger, batch, most, beat)
        yield sent


@_attack
def floods_clients(
    victim: Victim, count: int, beat: Beat, *, batch: Batch, most: int
) -> Iterator[int]:
    """The same of servers, to which the victim is a client."""
    context = server_context(version=ssl.TLSVersion.TLSv1_3)
    context.num_tickets = 0
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(kernel.create_server(("127.0.0.1", 0)))
        listening.settimeout(LIMIT)
        victim.connect(listening.getsockname()[1], count)
        sent = 0
        for _ in range(count):
            sock = stack.enter_context(listening.accept()[0])
            sock.settimeout(LIMIT)
            forger = Forger(sock, context, server_side=True)
            sock.settimeout(PATIENCE)
            sent += _flood(forger, batch, most, beat)
        yield sent


def _flood(forger: Forger, batch: Batch, most: int, beat: Beat) -> int:
    sent = 0
    while sent < most:
        wire = batch(forger)
        taken = send_all(forger.sock, wire)
        sent += taken
        if taken < len(wire):
            break
        beat()
    return sent


def key_updates(forger: Forger) -> bytes:
    """Each wants an answer; a byte between them, that they are not one behind the other."""
    sealer = forger.sealer
    return b"".join(
        sealer.key_update(answer=True) + sealer.seal(APPLICATION_DATA, b"x") for _ in range(BEAT)
    )


def key_updates_in_a_row(forger: Forger) -> bytes:
    return b"".join(forger.sealer.key_update(answer=True) for _ in range(BEAT))


def warnings(forger: Forger) -> bytes:
    """Alerts that end nothing: user_canceled."""
    seal = forger.sealer.seal
    return b"".join(seal(ALERT, b"\1\x5a") + seal(APPLICATION_DATA, b"x") for _ in range(BEAT))


def renegotiations(forger: Forger) -> bytes:
    """Each wants a new handshake, and is told that there is none."""
    return b"".join(forger.sealer.seal(HANDSHAKE, client_hello()) for _ in range(BEAT))


def single_bytes(forger: Forger) -> bytes:
    return b"".join(forger.sealer.seal(APPLICATION_DATA, b"x") for _ in range(BEAT))


def tickets(forger: Forger) -> bytes:
    """NewSessionTickets of almost 64 KiB."""
    ticket = struct.pack("!IIBB", 7200, 1, 1, 0) + struct.pack("!H", 65_000) + bytes(65_000)
    seal = forger.sealer.seal
    return b"".join(seal(HANDSHAKE, it) for it in _in_records(_message(4, ticket + b"\0\0")))


def small_tickets(forger: Forger) -> bytes:
    ticket = struct.pack("!IIBB", 7200, 1, 1, 0) + struct.pack("!H", 1) + b"t" + b"\0\0"
    return forger.sealer.seal(HANDSHAKE, _message(4, ticket) * 500)


# In the clear

# The signature of version 2, a proxied TCP connection over IPv4, and what is to follow: 16 KiB with
# that, which is the most that is taken.
LONG_PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x3f\xf0"


def zeros() -> bytes:
    return bytes(3000)


def letters() -> bytes:
    return b"a" * 3000


def endless_proxy_v1() -> bytes:
    return b"PROXY TCP4 192.0.2.1" + b" " * 300


def four_gib() -> bytes:
    """The length that a packet of 4 GiB has before it."""
    return b"\xff" * 4


@_attack
def never_reads(victim: Victim, count: int, beat: Beat, *, most: int) -> Iterator[int]:
    """Has everything come back that it sends, and reads none of it."""
    with contextlib.ExitStack() as stack:
        sent = 0
        for _ in range(count):
            sock = kernel.socket()
            sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 4096)
            sock.settimeout(PATIENCE)
            sock.connect(victim.address)
            talk: kernel.socket = stack.enter_context(sock)
            if victim.link != "tcp":
                talk = stack.enter_context(tls13().wrap_socket(sock, server_hostname="localhost"))
            one = 0
            with contextlib.suppress(OSError):
                while one < most:
                    one += talk.send(bytes(65536))
                    beat()
            sent += one
        yield sent


@_attack
def resets(victim: Victim, count: int, beat: Beat) -> Iterator[int]:
    """Comes, says something, and is gone with a RST."""
    for number in range(count):
        sock = victim.dial()
        sock.send(b"x")
        sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        if number % BEAT == 0:
            beat()
    yield count


@_attack
def crowds_at_the_door(victim: Victim, count: int, beat: Beat) -> Iterator[int]:
    """Connects without waiting for anything, more than are let in, or than may wait."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(kernel.socket())
            sock.setblocking(False)
            sock.connect_ex(victim.address)
            if number % BEAT == 0:
                beat()
        yield count
