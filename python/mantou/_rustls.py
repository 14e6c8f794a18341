"""What rustls does whatever is asked of it, in the words of the ssl module."""

from __future__ import annotations

import ssl

_OP_DONT_INSERT_EMPTY_FRAGMENTS = 0x800

# OpenSSL's bits that say what is so in any case: old protocols, compression and renegotiation
# are not there, ephemeral keys are used once, and bugs of old peers are not worked around.
ALWAYS_SO = int(
    ssl.OP_ALL
    | ssl.OP_NO_SSLv2
    | ssl.OP_NO_SSLv3
    | ssl.OP_NO_TLSv1
    | ssl.OP_NO_TLSv1_1
    | ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | ssl.OP_SINGLE_DH_USE
    | ssl.OP_SINGLE_ECDH_USE
    | ssl.OP_ENABLE_MIDDLEBOX_COMPAT
    | _OP_DONT_INSERT_EMPTY_FRAGMENTS
)
