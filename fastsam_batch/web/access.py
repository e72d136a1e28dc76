"""Who may talk to the page: this machine alone, or whoever brings the token; and the headers that keep it safe."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from fastsam_batch.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "fastsam_batch_token"
_COOKIE_SECONDS = 30 * 24 * 3600
_LEAST_TOKEN = 8
# Everything comes from this server: no other host, no inline script, no frame around the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def check_access(host: str, token: str | None) -> None:
    """Raise InputError where the page would be open to other machines without a token, or the token is weak."""
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(f"--token is too short or not plain ASCII; take {_LEAST_TOKEN} or more of a-z 0-9")
    if token is None and not is_loopback(host):
        raise InputError(
            f"--host {host} would let other machines see the corpus; name a --token they must bring, or no --host"
        )


def is_loopback(host: str) -> bool:
    """True for a name or address that only this machine reaches."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: every request brings the token (header or cookie), every answer the headers above.

    Without a token the Host header must name this machine, so that no web page elsewhere can reach the server
    through a name of its own that resolves to 127.0.0.1 (DNS rebinding). `?token=` is taken once: it becomes a
    cookie, and the address loses it. Links on other sites lead in with the cookie (Lax), for nothing that they could
    ask by GET changes anything; their scripts and forms do not.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app = app
        self.token = token
        # Cookies know no ports: pages of one host with tokens of their own must not take each other's for theirs.
        self.cookie = f"{_COOKIE}_{hashlib.sha256((token or '').encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        if self.token is None:
            if is_loopback(_host_name(headers.get("host", ""))):
                await self.app(scope, receive, send_guarded)
            else:
                await _refuse(send_guarded, 421, "this page answers to localhost only; other hosts need a --token")
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        brought = next((value for name, value in query if name == "token"), None)
        if brought is not None and scope["method"] == "GET" and self._fits(brought):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = quote("/" + scope["path"].lstrip("/"))  # of this host, whatever the path begins with
            await _redirect(send_guarded, f"{path}{'?' if rest else ''}{rest}", self.cookie, self.token)
        elif any(self._fits(value) for value in _tokens(headers, self.cookie)):
            await self.app(scope, receive, send_guarded)
        else:
            await _refuse(send_guarded, 401, "this page needs its token: open its address with ?token=... once")

    def _fits(self, brought: str) -> bool:
        return hmac.compare_digest(brought.encode(), (self.token or "").encode())


def _tokens(headers: dict[str, str], name: str) -> list[str]:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    found = [credentials.strip()] if scheme.lower() == "bearer" else []
    # One by one: SimpleCookie gives up at the first cookie of another program that is not as it should be.
    for part in headers.get("cookie", "").split(";"):
        if part.strip().startswith(f"{name}="):
            found += _cookie_values(part.strip())
    return found


def _cookie_values(part: str) -> list[str]:
    try:
        return [each.value for each in SimpleCookie(part).values()]
    except CookieError:
        return []


def _host_name(host: str) -> str:
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    await _respond(send, status, [(b"content-type", b"application/json")], body)


async def _redirect(send: Send, location: str, cookie_name: str, token: str) -> None:
    cookie: SimpleCookie = SimpleCookie({cookie_name: token})
    for name, value in {"path": "/", "httponly": True, "samesite": "Lax", "max-age": _COOKIE_SECONDS}.items():
        cookie[cookie_name][name] = value
    headers = [(b"location", location.encode()), (b"set-cookie", cookie[cookie_name].OutputString().encode())]
    await _respond(send, 303, headers, b"")


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    keep_none = (b"cache-control", b"no-store")
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length, keep_none]})
    await send({"type": "http.response.body", "body": body})
