"""Who gets in: this machine, or whoever brings the token."""

from __future__ import annotations

import pytest
from corpus.made_corpus import MadeCorpus
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from fastsam_batch.cli import job
from fastsam_batch.errors import InputError
from fastsam_batch.web.access import Guard, check_access

TOKEN = "a-long-secret"


async def hello(scope, receive, send) -> None:
    await PlainTextResponse(f"hello {Request(scope).url.query}")(scope, receive, send)


COOKIE = Guard(hello, TOKEN).cookie


def client(token: str | None, host: str) -> TestClient:
    return TestClient(Guard(hello, token), base_url=f"http://{host}", follow_redirects=False)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "LOCALHOST"])
def test_without_a_token_this_machine_gets_in(host: str) -> None:
    assert client(None, host).get("/").text == "hello "


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org:8000", "10.0.0.1", "localhost.example.org"])
def test_without_a_token_a_name_from_elsewhere_does_not(host: str) -> None:
    answer = client(None, host).get("/")
    assert answer.status_code == 421 and "localhost only" in answer.json()["error"]


def test_a_token_comes_as_a_header_or_once_in_the_address() -> None:
    browser = client(TOKEN, "example.org")
    refused = browser.get("/?q=a+cup")
    assert refused.status_code == 401 and "?token=" in refused.json()["error"] and TOKEN not in refused.text
    for wrong in ("a-long-secreT", "", "a-long-secret ", "é"):
        assert browser.get("/", params={"token": wrong}).status_code == 401
        assert browser.get("/", headers={"authorization": f"Bearer {wrong}x".encode()}).status_code == 401
    assert browser.get("/", headers={"authorization": f"Bearer {TOKEN}"}).text == "hello "
    taken = browser.get("/", params={"q": "a cup", "token": TOKEN, "where": "x=1&y"})
    assert taken.status_code == 303 and taken.headers["location"] == "/?q=a+cup&where=x%3D1%26y"
    cookie = taken.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie
    assert taken.headers["cache-control"] == "no-store"
    assert browser.get("/").text == "hello "  # by its cookie
    browser.cookies.set(COOKIE, "something else")
    assert client(TOKEN, "example.org").get("/", headers={"cookie": f"{COOKIE}=wrong"}).status_code == 401


def test_the_token_is_found_among_cookies_of_other_programs() -> None:
    browser = client(TOKEN, "example.org")
    for cookies in (
        f'theme={{"dark":true}}; {COOKIE}={TOKEN}',
        f"{COOKIE}={TOKEN};a b=c",
        f"{COOKIE}=old; {COOKIE}={TOKEN}",
    ):
        assert browser.get("/", headers={"cookie": cookies}).text == "hello "
    for cookies in (f"x{COOKIE}={TOKEN}", f"theme={COOKIE}={TOKEN}", f"{COOKIE}=wrong; {COOKIE}"):
        assert browser.get("/", headers={"cookie": cookies}).status_code == 401


def test_pages_with_tokens_of_their_own_keep_their_cookies_apart() -> None:
    first, second = (client(token, "example.org") for token in (TOKEN, "another-secret"))
    second.cookies = first.cookies  # a browser sends a host's cookies to all of its ports
    for browser, token in ((first, TOKEN), (second, "another-secret")):
        assert browser.get("/", params={"token": token}).status_code == 303
    assert first.get("/").text == second.get("/").text == "hello "


def test_the_address_cannot_send_the_browser_elsewhere() -> None:
    answer = client(TOKEN, "example.org").get(f"http://example.org//evil.example/%5Cx?token={TOKEN}")
    assert answer.status_code == 303 and answer.headers["location"] == "/evil.example/%5Cx"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_another_host_needs_a_token(host: str, made_once: MadeCorpus, capsys) -> None:
    assert job("serve", ["--corpus", made_once.uri, "--host", host, "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --host {host} would let other machines see the corpus") and said.count("\n") == 1


@pytest.mark.parametrize("token", ["short", "", "né-pas-assez-simple"])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="--token is too short or not plain ASCII"):
        check_access("0.0.0.0", token)
    check_access("127.0.0.2", None)
    check_access("0.0.0.0", TOKEN)
