"""The exceptions that the command line turns into one sentence: exit code 2 for an InputError, 1 for an outage."""

from __future__ import annotations


class InputError(ValueError):
    """A bad argument, file or corpus: the message is one sentence naming it and the remedy."""


class NotInCorpusError(InputError):
    """What was named, an image or a mask, is not in the corpus."""


class OutageError(OSError):
    """A store does not answer, or not with what it holds, or Ray does not start: another attempt may help."""


def first_line(error: object, most: int | None = 200) -> str:
    """What an error says in its first line, at most so many characters; its class where it says nothing."""
    said = str(error).strip().partition("\n")[0]
    return (said if most is None or len(said) <= most else f"{said[: most - 1]}…") or type(error).__name__
