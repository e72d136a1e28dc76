"""Classes in words, saved in a file: texts, contrasts and thresholds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fastsam_batch import storage
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.search.texts import alternatives

_FORM = "a list of classes, each a name or {name, texts, not, min_score}, or a mapping with `classes`"

# Names go into XML, YAML and JSON: what one of them cannot hold, or reads as a line's end.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class ClassQuery:
    """A class in words: any of `texts` will do, the mask must look less like every one of `contrasts`.

    `min_score` is the least cosine with the best text; None: none.
    """

    name: str
    texts: tuple[str, ...]
    contrasts: tuple[str, ...] = ()
    min_score: float | None = None


def read_classes(uri: str) -> list[ClassQuery]:
    """The classes of a YAML file (or JSON). Raises InputError, naming the class, for a file that is none,
    OutageError where its store fails.
    """
    import yaml  # type: ignore[import-untyped]

    fs, path = storage.filesystem(uri)
    try:
        return parse_classes(_of_yaml(storage.read_whole(fs, path)))
    except OutageError:
        raise
    except OSError as error:
        raise InputError(f"cannot read the classes {storage.redact(uri)}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:  # a text such as 2024-13-45 is a date that is none
        said = " ".join(str(error).split())
        raise InputError(f"{storage.redact(uri)}: {said}; it should hold {_FORM}") from error


def _of_yaml(content: bytes) -> Any:
    """As PyYAML's safe_load, but a key that comes twice, whose first value that loses in silence, is refused."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.MarkedYAMLError(problem=f"the key {twice!r} comes twice", problem_mark=node.start_mark)
            return super().construct_mapping(node, deep)

    loader = Loader(content)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def parse_classes(document: Any) -> list[ClassQuery]:
    """Classes of what a YAML file holds.

    A list of classes, or a mapping with the list as `classes` and defaults for those that do not say: `not`
    (contrasts, added to a class's own) and `min_score`. A class is a name, which is its text too, or a mapping of
    `name`, `texts` (default: the name), `not` and `min_score`. Raises InputError for anything else.
    """
    head = document if isinstance(document, dict) else {"classes": document}
    _known_keys(head, ("classes", "not", "min_score"), "the file")
    entries = head.get("classes")
    if not isinstance(entries, list) or not entries:
        raise InputError("there are no classes")
    background = _texts(head.get("not", []), "`not`")
    min_score = _number(head.get("min_score"), "the file")
    classes = [_class(entry, background, min_score) for entry in entries]
    names = [each.name for each in classes]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"there are two classes {name!r}")
    return classes


def _class(entry: Any, background: tuple[str, ...], min_score: float | None) -> ClassQuery:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise InputError(f"a class is {entry!r}, which has no name")
    name = entry["name"].strip()
    if _NO_TEXT.search(name):
        raise InputError(f"class {name!r} has a control character, which files of labels cannot hold")
    _known_keys(entry, ("name", "texts", "not", "min_score"), f"class {name!r}")
    texts = _texts(entry.get("texts", [name]), f"`texts` of class {name!r}")
    if not texts:
        raise InputError(f"class {name!r} has no texts")
    own = _texts(entry.get("not", []), f"`not` of class {name!r}")
    contrasts = tuple(dict.fromkeys(text for text in (*own, *background) if text not in texts))
    least = _number(entry.get("min_score"), f"class {name!r}")
    return ClassQuery(name, texts, contrasts, min_score if least is None else least)


def _texts(value: Any, what: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) and text.strip() for text in values):
        raise InputError(f"{what} is {value!r}, not a text or a list of texts")
    return tuple(dict.fromkeys(each for text in values for each in alternatives(text.strip())))


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise InputError(f"min_score of {what} is {value!r}, not a cosine")
    return float(value)


def _known_keys(entry: dict[Any, Any], known: tuple[str, ...], what: str) -> None:
    for key in entry:
        if key not in known:
            raise InputError(f"{what} has {key!r}, which is none of {', '.join(known)}")
