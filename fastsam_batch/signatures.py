"""Signatures of web addresses: which fields of a query hold a secret, and an address without them."""

from __future__ import annotations

import re

from fastsam_batch.storage import WEB, redact

# Names of query fields that hold a secret, or change with every signature: by how they begin or end, what they hold,
# and their words (`userkey`, `Key-Pair-Id`, `AWSAccessKeyId`), not by what other words hold (`keyword`, `design`).
_SIGNS = re.compile(
    r"^(x|goog)-|signature|token|secret|passw|credential|authori[sz]|session"
    r"|(access|account|api|app|auth|client)_?(key|id)|(sig|key|auth|pass|pwd)$"
    r"|(?<![a-z])(sig|sign|key|auth|pass|pwd|creds?|expir(es?|y|ation)|policy|jwt|hmac)(?![a-z])|^code$",
    re.IGNORECASE,
)
_NEXT_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SIGNED_BY_AZURE = re.compile(r"s[epirtsv]|srt|spr|sdd|sk(oid|tid|t|e|s|v)|rsc[cdelt]", re.IGNORECASE)


def unsigned(uri: str) -> str:
    """The URI as `redact` leaves it, with what of a web address's query names the file: all but what may sign it."""
    without = redact(uri)
    query = uri.partition("?")[2] if uri.partition("://")[0].lower() in WEB else ""
    if not query or "/" not in without.partition("://")[2]:
        return without
    fields = query.split("&")
    names = [field.partition("=")[0] for field in fields]
    azure = "sig" in map(str.lower, names)
    kept = [
        field
        for field, name in zip(fields, names, strict=True)
        if not _SIGNS.search(_NEXT_WORD.sub("-", name)) and not (azure and _SIGNED_BY_AZURE.fullmatch(name))
    ]
    return f"{without}?{'&'.join(kept)}" if kept else without
