"""What is an answer about a file and what is a store that fails for now."""

from __future__ import annotations

import errno
import io

import httpx
import pytest
from aiohttp import ClientConnectionError, ClientResponseError, RequestInfo
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ParamValidationError
from s3fs.errors import translate_boto_error
from yarl import URL

from fastsam_batch.cli import _finish
from fastsam_batch.cli_progress import print_unfinished
from fastsam_batch.corpus.info import unwritable
from fastsam_batch.errors import InputError, OutageError, first_line
from fastsam_batch.outage import WholeFile, answering, is_answer, is_storage_error


def s3_error(code):
    return translate_boto_error(ClientError({"Error": {"Code": code, "Message": "m"}}, "GetObject"))


def web_error(status):
    url = URL("http://host/x?sig=secret")
    return ClientResponseError(RequestInfo(url, "GET", {}, url), (), status=status)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (s3_error("NoSuchKey"), True),
        (s3_error("404"), True),
        (s3_error("InternalError"), False),
        (s3_error("SlowDown"), False),
        (s3_error("503"), False),
        (s3_error("RequestTimeout"), False),
        (s3_error("ExpiredToken"), False),
        (s3_error("403"), False),
        (s3_error("400"), False),
        (s3_error("KeyTooLongError"), True),
        (EndpointConnectionError(endpoint_url="http://host"), False),
        (NoCredentialsError(), False),
        (ParamValidationError(report="a bucket's name"), True),
        (ClientConnectionError("reset"), False),
        (httpx.ConnectError("Name or service not known"), False),  # what huggingface_hub raises
        (web_error(404), True),
        (web_error(403), True),
        (web_error(410), True),
        (web_error(429), False),
        (web_error(500), False),
        (web_error(503), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (OSError(errno.EIO, "disk", "/x"), False),
        (OSError(errno.ENOSPC, "full", "/x"), False),
        (PermissionError(errno.EACCES, "no", "/x"), True),
        (IsADirectoryError(errno.EISDIR, "folder", "/x"), True),
        (OSError(errno.ENAMETOOLONG, "long", "/x"), True),
        (InputError("no such scheme"), True),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_answers_and_outages(error, answer):
    assert is_answer(error) == answer
    assert is_storage_error(error) or isinstance(error, InputError)
    with pytest.raises(type(error) if answer else OutageError), answering():
        raise error


def test_an_outage_tells_its_reason_without_the_signature():
    with pytest.raises(OutageError) as told, answering():
        raise web_error(503)
    assert "503" in str(told.value) and "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (s3_error("SlowDown"), OutageError),
        (s3_error("InternalError"), OutageError),
        (OSError(errno.ENOSPC, "full", "/x"), OutageError),
        (s3_error("AccessDenied"), InputError),
        (s3_error("SignatureDoesNotMatch"), InputError),
        (NoCredentialsError(), InputError),
        (PermissionError(errno.EACCES, "no", "/x"), InputError),
        (s3_error("NoSuchBucket"), InputError),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_output_that_fails_for_now_is_an_outage_and_one_that_refuses_bad_input(error, raised):
    try:
        with answering():
            raise error
    except Exception as told:  # noqa: BLE001 - whatever a write raises
        sentence = unwritable("s3://key:secret@bucket/x", told)
    assert type(sentence) is raised
    assert str(sentence).startswith("--output s3://bucket/x: cannot be written (")


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [("AccessDenied", 2, "credentials that may go there"), ("SlowDown", 1, "run the same command again")],
)
def test_a_command_that_is_refused_is_not_to_be_run_again(capsys, code, status, remedy):
    def command(arguments):
        with answering():
            raise s3_error(code)

    assert _finish(command, {}) == status
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.endswith(f"{remedy}\n") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("reason", "can_record", "told"),
    [
        ("http://127.0.0.1:9/a b.jpg: Cannot connect to host 127.0.0.1:9", True, True),
        ("http://127.0.0.1:9/a b.jpg: Cannot connect to host 127.0.0.1:9", False, False),
        ("RuntimeError: this decoder has a bug", True, False),
    ],
)
def test_a_dead_server_of_images_has_a_way_out(capsys, reason, can_record, told):
    unit = {"unit_id": "uri.parquet-0", "shard": "uri.parquet", "stage": "fetch", "reason": reason}
    print_unfinished({"unfinished_units": 1, "unfinished": [unit]}, can_record)
    said = capsys.readouterr().err
    assert reason in said and ("--record-unreachable" in said) == told


def test_a_bug_is_neither():
    with pytest.raises(ZeroDivisionError), answering():
        raise ZeroDivisionError


class Dripping(io.BytesIO):
    """Gives a few bytes at a time, and ends before its size where `short`."""

    def __init__(self, data, size):
        super().__init__(data)
        self.size = size

    def read(self, count=-1):
        return super().read(min(count, 3) if count >= 0 else 3)


def test_a_whole_file_is_read_whole_whatever_comes_at_once():
    file = WholeFile(Dripping(b"0123456789", 10))
    assert file.read(4) == b"0123"
    assert file.read() == b"456789"
    assert file.read(1) == b""
    file.seek(8)
    assert file.read(5) == b"89"
    assert io.BufferedReader(WholeFile(Dripping(b"0123456789", 10))).read() == b"0123456789"


@pytest.mark.parametrize("count", [-1, 9, 100])
def test_an_early_end_is_an_outage(count):
    with pytest.raises(OutageError, match="sent 7 of 10 bytes"):
        WholeFile(Dripping(b"0123456", 10)).read(count)


def test_a_sentence_that_is_cut_off_says_so() -> None:
    assert first_line("a" * 200) == "a" * 200 and first_line(ValueError()) == "ValueError"
    assert first_line("a" * 201 + "\nb") == "a" * 199 + "…"
