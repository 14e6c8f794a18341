"""Keying material, key logs and records, as OpenSSL, Node and the wire have them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import shutil
import socket as kernel
import ssl
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.support import RawListener, Recorder
from tests.tls import (
    VERSIONS,
    authority,
    client_context,
    client_options,
    command,
    foreign_client,
    part,
    read_until,
    server_context,
    server_credential,
    server_options,
)
from tests.tls_pairs import listener_is_empty, pair

versions = pytest.mark.parametrize("version", VERSIONS)


# Keying material


@versions
@pytest.mark.parametrize("context", [None, b"", b"steamed"])
async def test_keying_material_is_the_same_on_both_ends(
    version: str, context: bytes | None
) -> None:
    tls = client_options(max_version=version)
    async with pair(Recorder(), Recorder(), client_tls=tls) as (accepted, connected):
        exported = connected.export_keying_material(48, "EXPORTER-mantou", context)
        assert exported is not None
        assert len(exported) == 48
        assert exported == accepted.export_keying_material(48, "EXPORTER-mantou", context)
        assert exported != connected.export_keying_material(48, "EXPORTER-other", context)
        without = connected.export_keying_material(48, "EXPORTER-mantou")
        # TLS 1.2 tells an empty context from none.
        same = context is None or (context == b"" and version == "TLSv1.3")
        assert (exported == without) is same
        for kind in ("tls-exporter", "tls-server-end-point"):
            binding = connected.channel_binding(kind)
            assert binding is not None
            assert binding == accepted.channel_binding(kind)
        digest = hashlib.sha256(server_credential().der).digest()
        assert connected.channel_binding("tls-server-end-point") == digest
        for bad in (0, -1, 255 * 32 + 1):
            with pytest.raises((ValueError, OverflowError)):
                connected.export_keying_material(bad, "EXPORTER-mantou")
        with pytest.raises(ValueError, match="tls-unique"):
            connected.channel_binding("tls-unique")


@versions
async def test_keying_material_is_that_of_openssl(version: str) -> None:
    """`openssl s_client -keymatexport`, and with the label of RFC 9266 the channel binding."""
    flag = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}[version]
    for label in ("EXPORTER-mantou", "EXPORTER-Channel-Binding"):
        recorder = Recorder()
        with mantou.listen(
            hostname="127.0.0.1", port=0, socket=recorder, tls=server_options()
        ) as listener:
            asked = ("-keymatexport", label, "-keymatexportlen", "32")
            address = f"127.0.0.1:{listener.port}"
            with command("openssl", "s_client", flag, "-connect", address, *asked) as process:
                said = await read_until(process, b"Keying material: ")
                await recorder.until("open")
                socket = recorder.sockets[0]
                found = re.search(rb"Keying material: ([0-9A-F]{64})", said)
                assert found is not None, said
                material = bytes.fromhex(found[1].decode())
                assert socket.export_keying_material(32, label) == material
                if "Binding" in label and version == "TLSv1.3":
                    assert socket.channel_binding("tls-exporter") == material
                socket.terminate()
            await listener_is_empty(listener)


_NODE = """
const tls = require("tls");
const [port, version, ca] = process.argv.slice(1);
const socket = tls.connect({port, host: "127.0.0.1", ca: Buffer.from(ca, "base64"),
                            minVersion: version, maxVersion: version,
                            ALPNProtocols: ["bun"], servername: "localhost"}, () => {
  const material = (label, ...context) =>
    socket.exportKeyingMaterial(32, label, ...context).toString("hex");
  console.log(JSON.stringify({
    authorized: socket.authorized, alpn: socket.alpnProtocol, cipher: socket.getCipher(),
    exported: material("EXPORTER-mantou", Buffer.from("steamed")),
    binding: material("EXPORTER-Channel-Binding", Buffer.alloc(0)),
  }));
  socket.end("bun");
});
"""


@versions
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_node_agrees_on_everything(version: str) -> None:
    """It exports with a context too, which `openssl s_client` cannot."""
    found: dict[str, Any] = {}

    def look(socket: mantou.Socket[Any], data: bytes) -> None:
        exported = socket.export_keying_material(32, "EXPORTER-mantou", b"steamed")
        binding = socket.channel_binding("tls-exporter")
        assert exported is not None
        assert binding is not None
        found.update(exported=exported.hex(), binding=binding.hex())
        found.update(alpn=socket.alpn_protocol, cipher=socket.get_cipher())

    recorder = Recorder(data=look)
    tls = server_options(alpn_protocols=["h2", "bun"])
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        ca = base64.b64encode(authority().pem).decode()
        asked = ("-e", _NODE, str(listener.port), version, ca)
        with command("node", *asked) as process:
            said = json.loads(await read_until(process, b"\n"))
            await recorder.until("close")
    assert recorder.received == b"bun"
    assert recorder.errors == [None]
    cipher = found.pop("cipher")
    described = {"name": "name", "standard_name": "standardName"}
    theirs = said.pop("cipher")
    assert {name: cipher[name] for name in described} == {
        name: theirs[node_name] for name, node_name in described.items()
    }
    assert said == {"authorized": True, **found}


# The key log


@versions
async def test_the_key_log_is_that_of_openssl(version: str, tmp_path: Path) -> None:
    """Line for line what OpenSSL writes down for the same connection."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    context = client_context(version=VERSIONS[version])
    context.keylog_filename = str(theirs)
    recorder = Recorder(open=lambda socket: socket.end())
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options(key_log_file=ours)
    ) as listener:
        await foreign_client(context, ("127.0.0.1", listener.port), part)
        await listener_is_empty(listener)

    def lines(path: Path) -> dict[str, tuple[str, str]]:
        found = {}
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                label, random, secret = line.split(" ")
                found[label] = (random, secret)
        return found

    expected = lines(theirs)
    assert ("CLIENT_RANDOM" in expected) is (version == "TLSv1.2")
    assert len(expected) in (1, 5)
    got = lines(ours)
    assert {label: got.get(label) for label in expected} == expected


# Records


@pytest.mark.parametrize("size", [512, 1000, 16384])
async def test_records_are_as_large_as_asked_for(size: int) -> None:
    with RawListener() as raw:
        sizes: list[int] = []
        ready = asyncio.get_running_loop().run_in_executor(None, records, raw.sock.dup(), sizes)
        client = Recorder()
        socket = await mantou.connect(
            hostname="127.0.0.1", port=raw.port, socket=client, tls=client_options()
        )
        assert socket.set_max_send_fragment(size) is True
        assert socket.set_max_send_fragment(511) is False
        assert socket.set_max_send_fragment(16385) is False
        socket.end(bytes(40_000))
        assert await ready == 40_000
        await client.until("close")
    assert max(sizes) <= size + 17 + 5
    assert max(sizes) > size - 1


def records(listening: kernel.socket, sizes: list[int]) -> int:
    """Serves one client in memory, and notes how large its records are on the wire."""
    listening.settimeout(10)
    with listening:
        sock, _ = listening.accept()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server_context(version=ssl.TLSVersion.TLSv1_3).wrap_bio(
        incoming, outgoing, server_side=True
    )
    received, wire = 0, bytearray()
    with sock:
        sock.settimeout(10)
        handshaken = False
        while True:
            try:
                if not handshaken:
                    tls.do_handshake()
                    handshaken = True
                piece = tls.read(65536)
                if not piece:
                    break
                received += len(piece)
                continue
            except ssl.SSLZeroReturnError:
                break
            except ssl.SSLWantReadError:
                pass
            if outgoing.pending:
                sock.sendall(outgoing.read())
            data = sock.recv(65536)
            assert data
            incoming.write(data)
            wire += data
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        sock.sendall(outgoing.read())
    while len(wire) >= 5:
        size = 5 + int.from_bytes(wire[3:5], "big")
        if wire[0] == 23:
            sizes.append(size)
        del wire[:size]
    return received
