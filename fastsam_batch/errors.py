"""The one exception the command line turns into a sentence and exit code 2."""

from __future__ import annotations


class InputError(ValueError):
    """A bad argument, file or corpus: the message is one sentence naming it and the remedy."""
