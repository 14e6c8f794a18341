"""A `mantou.SSLContext` accepts and refuses the peers that OpenSSL does, for the same reasons."""

from __future__ import annotations

import ssl
import tempfile

import pytest

from tests.faithful import Outcome, SetUp, by_mantou, by_openssl, differences
from tests.faithful_certificates import CHAINS, NAMES, PURPOSES, Case, load
from tests.tls import authority, server_credential

SERVERS = CHAINS | NAMES | PURPOSES
CLIENTS = CHAINS | PURPOSES

pytestmark = pytest.mark.loops("mantou")


def judging(case: Case) -> SetUp:
    """Has a context judge its peer as the case says."""

    def set_up(context: ssl.SSLContext) -> None:
        trusted = authority().pem if case.trust is None else case.trust()
        lists = b"" if case.crl is None else case.crl()
        with tempfile.NamedTemporaryFile() as file:
            file.write(trusted + lists)
            file.flush()
            context.load_verify_locations(file.name)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= case.flags

    return set_up


def both(*set_ups: SetUp) -> SetUp:
    def set_up(context: ssl.SSLContext) -> None:
        for one in set_ups:
            one(context)

    return set_up


def only(version: ssl.TLSVersion) -> SetUp:
    def set_up(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    return set_up


def load_own(context: ssl.SSLContext) -> None:
    server_credential().load_into(context)


def trusting(context: ssl.SSLContext) -> None:
    context.load_verify_locations(cadata=authority().pem.decode())


def check(case: Case, truth: Outcome, ours: Outcome) -> None:
    code = None if truth.failure is None else truth.failure.verify_code
    assert case.code is None or (code or 0) == case.code, truth
    assert differences(truth, ours) == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_judges_servers(name: str, version: ssl.TLSVersion) -> None:
    case = SERVERS[name]
    peer = both(load(case.show()), only(version))
    truth = by_openssl(judging(case), peer, server_side=False, name=case.name)
    ours = await by_mantou(judging(case), peer, server_side=False, name=case.name)
    check(case, truth, ours)
    if version is ssl.TLSVersion.TLSv1_3:
        # With nothing else allowed, another context judges.
        alone = both(judging(case), only(version))
        ours = await by_mantou(alone, peer, server_side=False, name=case.name)
        check(case, truth, ours)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_server_judges_clients(name: str, version: ssl.TLSVersion) -> None:
    case = CLIENTS[name]
    ours_is = both(load_own, judging(case))
    peer = both(trusting, load(case.show()), only(version))
    truth = by_openssl(ours_is, peer, server_side=True)
    ours = await by_mantou(ours_is, peer, server_side=True)
    check(case, truth, ours)
    if version is ssl.TLSVersion.TLSv1_3:
        alone = both(ours_is, only(version))
        check(case, truth, await by_mantou(alone, peer, server_side=True))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shows", ["nothing", "valid", "unknown CA"])
@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
async def test_a_server_asks_for_certificates_or_not(
    mode: ssl.VerifyMode, shows: str, version: ssl.TLSVersion
) -> None:
    case = CHAINS.get(shows, CHAINS["valid"])

    def set_mode(context: ssl.SSLContext) -> None:
        context.verify_mode = mode

    ours_is = both(load_own, judging(case), set_mode)
    showing = () if shows == "nothing" else (load(case.show()),)
    peer = both(trusting, *showing, only(version))
    truth = by_openssl(ours_is, peer, server_side=True)
    ours = await by_mantou(ours_is, peer, server_side=True)
    refused = (mode is ssl.CERT_REQUIRED and shows == "nothing") or (
        mode is not ssl.CERT_NONE and shows == "unknown CA"
    )
    assert (truth.failure is not None) is refused
    assert differences(truth, ours) == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["unknown CA", "expired", "another name", "version 1"])
async def test_who_does_not_verify_takes_any_certificate(
    name: str, version: ssl.TLSVersion
) -> None:
    case = SERVERS[name]

    def unverified(context: ssl.SSLContext) -> None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    peer = both(load(case.show()), only(version))
    truth = by_openssl(unverified, peer, server_side=False)
    ours = await by_mantou(unverified, peer, server_side=False)
    assert truth.failure is None
    assert differences(truth, ours) == {}
