"""What the error of a TLS connection says of the server's certificate, in words that say what to do.

Whether a certificate is good is for the libraries below to say, each in its own way (tests/contract/test_tls.py).
"""

from __future__ import annotations

import re
import time

from ...storage.model import format_ms

_DATED = re.compile(
    r"certificate (?:has )?(?:expired|(?:is )?not (?:yet )?valid(?! for))|NotValidYet|CertExpired", re.IGNORECASE
)
_FOR_ANOTHER = re.compile(
    r"not valid for|NotValidForName|name mismatch|address mismatch|does not match host", re.IGNORECASE
)
_AUTHORITY = re.compile(r"CaUsedAsEndEntity")
_UNTRUSTED = re.compile(r"UnknownIssuer|certificate[ _]verify[ _]failed|root certificate file", re.IGNORECASE)


def on_the_certificate(text: str, *, authority: str = "SSL_CERT_FILE in the environment") -> str:
    """What is to be added to an error that may be one of the certificate; ``authority``: where to name one's own."""
    if _DATED.search(text):
        return f"; is this machine's clock right? It says {format_ms(int(time.time() * 1000))}"
    if _FOR_ANOTHER.search(text):
        return "; the server's certificate is for another name than the address has"
    if _AUTHORITY.search(text):
        return "; the server shows the certificate of an authority itself: let it show one that the authority signed"
    if _UNTRUSTED.search(text):
        return f"; nobody whom this machine trusts signed its certificate: {authority} names an authority of your own"
    return ""
