"""Usages, constraints of length, policies, validity, versions, serial numbers, extensions."""

from __future__ import annotations

from datetime import timedelta

from tests.certificates.building import (
    AUTHORITY_ID,
    BASIC,
    BITS,
    CLIENT_AUTH,
    DAY,
    EXTENDED,
    GENERALIZED,
    INTEGER,
    KEY_USAGE,
    NOW,
    NULL,
    SECOND,
    SEQUENCE,
    SERVER_AUTH,
    SUBJECT_ID,
    USAGES,
    UTC,
    basic,
    dns,
    extended,
    extension,
    generalized,
    integer,
    names,
    oid,
    tlv,
    usage,
    utc,
)
from tests.certificates.corpus.case import Case, leaf_case, middle_case

ANY, EMAIL, CODE, TIMESTAMP = (
    "2.5.29.37.0",
    "1.3.6.1.5.5.7.3.4",
    "1.3.6.1.5.5.7.3.3",
    "1.3.6.1.5.5.7.3.8",
)

_USAGE: list[Case] = [
    *(
        leaf_case(f"key usage: {bit} alone", lambda leaf, bit=bit: leaf.having(usage=usage(bit)))
        for bit in USAGES
    ),
    *(
        middle_case(f"CA's key usage: {bit} alone", lambda mid, bit=bit: mid.having(usage=usage(bit)))
        for bit in USAGES
    ),
    leaf_case("key usage: all", lambda leaf: leaf.having(usage=usage(*USAGES))),
    leaf_case("key usage: none in the extension", lambda leaf: leaf.having(usage=usage())),
    leaf_case("key usage: left out", lambda leaf: leaf.without("usage")),
    leaf_case("key usage: not critical", lambda leaf: leaf.having(usage=usage("digitalSignature", critical=False))),
    leaf_case("key usage: no bits at all", lambda leaf: leaf.having(usage=extension(KEY_USAGE, tlv(BITS), critical=True))),
    leaf_case("key usage: an octet string", lambda leaf: leaf.having(usage=extension(KEY_USAGE, b"\x04\x02\x07\x80", critical=True))),
    leaf_case("key usage: zeros behind", lambda leaf: leaf.having(usage=extension(KEY_USAGE, b"\x03\x02\x00\x80", critical=True))),
    middle_case("CA's key usage: left out", lambda mid: mid.without("usage")),
    middle_case("CA's key usage: not critical", lambda mid: mid.having(usage=usage("keyCertSign", critical=False))),
]  # fmt: skip

_EXTENDED: list[Case] = [
    *(
        builder(f"{whose} purposes: {name}", lambda one, of=of: one.having(extended=extended(*of)))
        for builder, whose in ((leaf_case, "own"), (middle_case, "CA's"))
        for name, of in (
            ("for servers", [SERVER_AUTH]),
            ("for clients", [CLIENT_AUTH]),
            ("for both", [CLIENT_AUTH, SERVER_AUTH]),
            ("for any", [ANY]),
            ("for any and servers", [ANY, SERVER_AUTH]),
            ("for any and clients", [ANY, CLIENT_AUTH]),
            ("for e-mail", [EMAIL]),
            ("for code and time stamps", [CODE, TIMESTAMP]),
            ("unknown", ["1.2.3.4"]),
            ("none in the extension", []),
        )
    ),
    leaf_case("own purposes: left out", lambda leaf: leaf.without("extended")),
    leaf_case("own purposes: a year 2000's gated crypto", lambda leaf: leaf.having(extended=extended("2.16.840.1.113730.4.1"))),
    leaf_case("own purposes: not a sequence", lambda leaf: leaf.having(extended=extension(EXTENDED, NULL))),
    leaf_case("own purposes: critical", lambda leaf: leaf.having(extended=extended(SERVER_AUTH, CLIENT_AUTH, critical=True))),
    middle_case("CA's purposes: critical, for e-mail", lambda mid: mid.having(extended=extended(EMAIL, critical=True))),
]  # fmt: skip

_BASIC: list[Case] = [
    leaf_case("basic: an end entity's", lambda leaf: leaf.having(basic=basic(False))),
    leaf_case("basic: a CA's, in the end entity", lambda leaf: leaf.having(basic=basic(True))),
    leaf_case("basic: a CA's with key usage, in the end entity", lambda leaf: leaf.having(basic=basic(True), usage=usage("digitalSignature", "keyCertSign"))),
    leaf_case("basic: false spelt out", lambda leaf: leaf.having(basic=extension(BASIC, b"\x30\x03\x01\x01\x00", critical=True))),
    leaf_case("basic: a length without a CA", lambda leaf: leaf.having(basic=basic(False, 0))),
    middle_case("basic: left out in the CA", lambda mid: mid.without("basic")),
    middle_case("basic: an end entity's in the CA", lambda mid: mid.having(basic=basic(False))),
    middle_case("basic: not critical in the CA", lambda mid: mid.having(basic=basic(True, critical=False))),
    middle_case("basic: true as 1", lambda mid: mid.having(basic=extension(BASIC, b"\x30\x03\x01\x01\x01", critical=True))),
    middle_case("basic: true in two bytes", lambda mid: mid.having(basic=extension(BASIC, b"\x30\x04\x01\x02\xff\xff", critical=True))),
    middle_case("basic: a length of 0", lambda mid: mid.having(basic=basic(True, 0))),
    middle_case("basic: a length of 1", lambda mid: mid.having(basic=basic(True, 1))),
    middle_case("basic: a length of 128", lambda mid: mid.having(basic=basic(True, 128))),
    middle_case("basic: a length of 2^40", lambda mid: mid.having(basic=basic(True, 1 << 40))),
    middle_case("basic: a length below 0", lambda mid: mid.having(basic=basic(True, -1))),
    middle_case("basic: an integer", lambda mid: mid.having(basic=extension(BASIC, b"\x02\x01\x07", critical=True))),
    middle_case("basic: empty", lambda mid: mid.having(basic=extension(BASIC, b"", critical=True))),
    middle_case("basic: bytes behind", lambda mid: mid.having(basic=extension(BASIC, b"\x30\x03\x01\x01\xff\x00", critical=True))),
]  # fmt: skip

POLICIES, MAPPINGS, POLICY_CONSTRAINTS, INHIBIT = "2.5.29.32", "2.5.29.33", "2.5.29.36", "2.5.29.54"


def _policies(*of: str) -> bytes:
    return tlv(SEQUENCE, *(tlv(SEQUENCE, oid(one)) for one in of))


_POLICY: list[Case] = [
    *(
        leaf_case(
            f"policies: {name}, {'' if critical else 'not '}critical",
            lambda leaf, which=which, value=value, critical=critical: leaf.having(
                policy=extension(which, value, critical=critical)
            ),
        )
        for name, which, value in (
            ("named", POLICIES, _policies("1.2.3")),
            ("any", POLICIES, _policies("2.5.29.32.0")),
            ("the same twice", POLICIES, _policies("1.2.3", "1.2.3")),
            ("none in the extension", POLICIES, _policies()),
            ("no sequence", POLICIES, NULL),
        )
        for critical in (True, False)
    ),
    *(
        middle_case(
            f"policies: CA's {name}, {'' if critical else 'not '}critical",
            lambda mid, which=which, value=value, critical=critical: mid.having(
                policy=extension(which, value, critical=critical)
            ),
        )
        for name, which, value in (
            ("named", POLICIES, _policies("1.2.3")),
            ("mapped", MAPPINGS, tlv(SEQUENCE, tlv(SEQUENCE, oid("1.2.3"), oid("1.2.4")))),
            ("explicit", POLICY_CONSTRAINTS, tlv(SEQUENCE, tlv(0x80, b"\0"))),
            ("explicit below", POLICY_CONSTRAINTS, tlv(SEQUENCE, tlv(0x80, b"\5"))),
            ("without mapping", POLICY_CONSTRAINTS, tlv(SEQUENCE, tlv(0x81, b"\0"))),
            ("without any", INHIBIT, integer(0)),
        )
        for critical in (True, False)
    ),
]

_YEARS = timedelta(365 * 60)


def _dates(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    return before, after


_FROM, _TO = utc(NOW - DAY), utc(NOW + DAY)
_VALIDITY: list[tuple[str, tuple[bytes, bytes]]] = [
    ("today", (_FROM, _TO)),
    ("expired yesterday", (utc(NOW - 2 * DAY), utc(NOW - DAY))),
    ("expired two seconds ago", (_FROM, utc(NOW - 2 * SECOND))),
    ("from two seconds ago", (utc(NOW - 2 * SECOND), _TO)),
    ("from tomorrow", (utc(NOW + DAY), utc(NOW + 2 * DAY))),
    ("from an hour on", (utc(NOW + timedelta(hours=1)), _TO)),
    ("to an hour on", (_FROM, utc(NOW + timedelta(hours=1)))),
    ("the end before the beginning", (_TO, _FROM)),
    ("one second, long ago", (utc(NOW - DAY), utc(NOW - DAY))),
    ("generalized before 2050", (generalized(NOW - DAY), generalized(NOW + DAY))),
    ("generalized, expired", (generalized(NOW - 2 * DAY), generalized(NOW - DAY))),
    ("generalized from 2050 on", (_FROM, generalized(NOW + _YEARS))),
    ("until 9999", (_FROM, tlv(GENERALIZED, b"99991231235959Z"))),
    ("from 1950", (tlv(UTC, b"500101000000Z"), _TO)),
    ("from 1970", (tlv(UTC, b"700101000000Z"), _TO)),
    ("from the year 0", (tlv(GENERALIZED, b"00000101000000Z"), _TO)),
    ("of 1949 as UTC time: 2049", (_FROM, tlv(UTC, b"491231235959Z"))),
    ("without seconds", (_FROM, tlv(UTC, _TO[2:12] + b"Z"))),
    ("with a zone", (_FROM, tlv(UTC, _TO[2:14] + b"+0100"))),
    ("without Z", (_FROM, tlv(UTC, _TO[2:14]))),
    ("fractions of seconds", (_FROM, tlv(GENERALIZED, b"20490101000000.5Z"))),
    ("the 30th of February", (_FROM, tlv(UTC, b"490230000000Z"))),
    ("the 29th of February of no leap year", (_FROM, tlv(UTC, b"490229000000Z"))),
    ("month 13", (_FROM, tlv(UTC, b"491301000000Z"))),
    ("hour 24", (_FROM, tlv(UTC, b"490101240000Z"))),
    ("second 60", (_FROM, tlv(UTC, b"490101000060Z"))),
    ("letters", (_FROM, tlv(UTC, b"49010100000AZ"))),
    ("signs", (_FROM, tlv(UTC, b"49-101000000Z"))),
    ("empty", (_FROM, tlv(UTC))),
    ("an integer", (_FROM, integer(7))),
]

_SERIALS: list[tuple[str, bytes]] = [
    ("0", integer(0)),
    ("1", integer(1)),
    ("below 0", integer(-5)),
    ("20 bytes", tlv(INTEGER, b"\x7f" * 20)),
    ("21 bytes", tlv(INTEGER, b"\x7f" * 21)),
    ("20 bytes and a zero in front", tlv(INTEGER, b"\0" + b"\xff" * 20)),
    ("100 bytes", tlv(INTEGER, b"\x7f" * 100)),
    ("zeros in front", tlv(INTEGER, b"\0\0\0\5")),
    ("empty", tlv(INTEGER)),
    ("a boolean", b"\x01\x01\xff"),
]

_FIELDS: list[Case] = [
    *(
        builder(f"{whose} validity: {name}", lambda one, dates=dates: one.but(validity=dates))
        for name, dates in _VALIDITY
        for builder, whose in (
            ((leaf_case, "own"), (middle_case, "CA's")) if "expired" in name or "tomorrow" in name
            else ((leaf_case, "own"),)
        )
    ),
    *(leaf_case(f"serial: {name}", lambda leaf, serial=serial: leaf.but(serial=serial)) for name, serial in _SERIALS),
    middle_case("serial: below 0 in the CA", lambda mid: mid.but(serial=integer(-5))),
    leaf_case("version 1", lambda leaf: leaf.but(version=1, extensions={})),
    leaf_case("version 2", lambda leaf: leaf.but(version=2, extensions={})),
    leaf_case("version 1 with extensions", lambda leaf: leaf.but(version=1)),
    leaf_case("version 2 with extensions", lambda leaf: leaf.but(version=2)),
    leaf_case("version 3 without extensions", lambda leaf: leaf.but(extensions={})),
    leaf_case("version 4", lambda leaf: leaf.but(version=4)),
    middle_case("version 1 in the CA", lambda mid: mid.but(version=1, extensions={})),
    leaf_case("unique identifiers", lambda leaf: leaf.but(identifiers=tlv(0x81, b"\0\1") + tlv(0x82, b"\0\2"))),
]  # fmt: skip

_UNKNOWN = extension("1.2.3.4", NULL)
_EXTENSIONS: list[Case] = [
    *(
        builder(f"extension: {name}, {whose}", lambda one, value=value: one.having(more=value))
        for builder, whose in ((leaf_case, "own"), (middle_case, "CA's"))
        for name, value in (
            ("unknown", _UNKNOWN),
            ("unknown and critical", extension("1.2.3.4", NULL, critical=True)),
            ("unknown and critical, without a value", extension("1.2.3.4", b"", critical=True)),
            ("unknown twice", _UNKNOWN + _UNKNOWN),
            ("critical spelt out as false", tlv(SEQUENCE, oid("1.2.3.4"), b"\x01\x01\x00", b"\x04\x02\x05\x00")),
            ("critical as 1", tlv(SEQUENCE, oid("1.2.3.4"), b"\x01\x01\x01", b"\x04\x02\x05\x00")),
            ("of a thousand bytes", extension("1.2.3.4", b"\x04\x82\x03\xe8" + bytes(1000))),
            ("OCSP must-staple", extension("1.3.6.1.5.5.7.1.24", b"\x30\x03\x02\x01\x05")),
            ("OCSP must-staple, critical", extension("1.3.6.1.5.5.7.1.24", b"\x30\x03\x02\x01\x05", critical=True)),
            ("poison of Certificate Transparency", extension("1.3.6.1.4.1.11129.2.4.3", NULL, critical=True)),
            ("of Netscape's, for e-mail", extension("2.16.840.1.113730.1.1", b"\x03\x02\x05\x20")),
            ("no extension at all", NULL),
            ("without a value", tlv(SEQUENCE, oid("1.2.3.4"))),
        )
    ),
    leaf_case("extension: names twice", lambda leaf: leaf.having(more=names(dns("other.test")))),
    leaf_case("extension: names twice, the other first", lambda leaf: leaf.but(extensions={"more": names(dns("other.test")), **leaf.extensions})),
    leaf_case("extension: key usage twice", lambda leaf: leaf.having(more=usage("digitalSignature"))),
    middle_case("extension: basic constraints twice", lambda mid: mid.having(more=basic(True))),
    leaf_case("extension: identifiers of the authority left out", lambda leaf: leaf.without("authority_id")),
    leaf_case("extension: identifiers of the subject left out", lambda leaf: leaf.without("subject_id")),
    middle_case("extension: identifiers of the CA left out", lambda mid: mid.without("subject_id", "authority_id")),
    leaf_case("extension: another authority's identifier", lambda leaf: leaf.having(authority_id=extension(AUTHORITY_ID, tlv(SEQUENCE, tlv(0x80, b"\1" * 20))))),
    leaf_case("extension: another authority's serial number", lambda leaf: leaf.having(authority_id=extension(AUTHORITY_ID, tlv(SEQUENCE, tlv(0x80, leaf.extensions["authority_id"][-20:]), tlv(0xA1, tlv(0xA4, leaf.issuer.issuer.subject)), tlv(0x82, b"\x63"))))),  # type: ignore[union-attr, index]
    leaf_case("extension: identifier of the authority critical", lambda leaf: leaf.having(authority_id=extension(AUTHORITY_ID, tlv(SEQUENCE, tlv(0x80, leaf.extensions["authority_id"][-20:])), critical=True))),  # type: ignore[index]
    leaf_case("extension: identifier of the subject critical", lambda leaf: leaf.having(subject_id=extension(SUBJECT_ID, b"\x04\x02\1\2", critical=True))),
    leaf_case("extension: identifier of the subject malformed", lambda leaf: leaf.having(subject_id=extension(SUBJECT_ID, NULL))),
    leaf_case("extension: names that are no sequence", lambda leaf: leaf.having(names=extension("2.5.29.17", NULL))),
]  # fmt: skip

CASES = [*_USAGE, *_EXTENDED, *_BASIC, *_POLICY, *_FIELDS, *_EXTENSIONS]
