"""A file of business rules, read: YAML whose every fault is told with its line and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from models.rules.file import Audience, Bury, BusinessRules, Exclude, ExposureCap, Pin

#: A file of a thousand rules of each kind is well below it; what is larger is some other file.
SIZE_LIMIT: Final = 1_048_576
_KINDS: Final[dict[str, type[BaseModel]]] = {"pin": Pin, "bury": Bury, "exclude": Exclude, "exposure_caps": ExposureCap}
#: What pydantic says in its own terms, by the type of its complaint.
_MESSAGES: Final = {
    "missing": "is missing; add it",
    "too_short": "names nothing; name at least one, or leave the key out",
    "model_type": "write keys and their values here, as in `sku: A1`",
    "tuple_type": "write a list here, each entry on a line of its own behind a dash",
}
#: Characters of a wrong value that are repeated in the message.
_SHOWN: Final = 60

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with a file and where: ``line`` and ``column`` from 1 (0: the file as a whole), ``path`` such as ``pin.0.sku``."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{where}{f'{self.path}: ' if self.path else ''}{self.message}"


class RulesError(ValueError):
    """A file that holds no valid rules; ``faults`` in the order of the file, never none."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults)
        super().__init__("; ".join(map(str, self.faults)))


def read_rules(data: bytes) -> BusinessRules:
    """The rules that ``data``, a YAML document in UTF-8, holds. Raises ``RulesError``.

    Every scalar is a text until its field says what it is: a country ``NO`` is no false, a SKU ``0123`` no octal number. There are no
    aliases, and no key twice. A document that says nothing is refused, because a file that is just being written looks like that:
    ``exclude: []`` holds no rules.
    """
    if len(data) > SIZE_LIMIT:
        raise RulesError([Fault(0, 0, "", f"is larger than any file of rules: {SIZE_LIMIT} bytes at most are read")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RulesError(
            [Fault(data.count(b"\n", 0, error.start) + 1, 1, "", f"not UTF-8: {error.reason}; save the file as UTF-8")]
        ) from None
    document = _Document(text)
    if not isinstance(document.value, dict) or not document.value:
        keys = ", ".join(_KINDS)
        raise RulesError([Fault(1, 1, "", f"a file of rules has at least one of the keys {keys}; `exclude: []` holds no rules at all")])
    faults = document.faults
    try:
        rules = BusinessRules.model_validate(document.value)
    except ValidationError as error:
        faults = [*faults, *(document.fault(details) for details in error.errors(include_url=False, include_context=False))]
    else:
        if not faults:
            return rules
    raise RulesError(faults)


class _Loader(yaml.SafeLoader):
    """Composes nodes; an alias is a fault, because what it stands for may be endless (``&a [*a]``) or a billion times as long."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, "aliases (*name) are not read; write out what it stands for", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _Document:
    """A YAML text as dicts, lists and texts (``value``), and where each part of it stands."""

    def __init__(self, text: str) -> None:
        self.faults: list[Fault] = []
        self._keys: dict[Path, yaml.Mark] = {}
        self._values: dict[Path, yaml.Mark] = {}
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
            self.value = self._plain(node, ())
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise RulesError([Fault(line, 1, "", f"{error.reason} (#x{error.character:02x}); remove it")]) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            about = ", ".join(part for part in (error.context, error.problem) if part)
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise RulesError([Fault(line, column, "", f"not valid YAML: {about}")]) from None
        except RecursionError:
            raise RulesError([Fault(0, 0, "", "lists within lists go too deep")]) from None

    def fault(self, details: ErrorDetails) -> Fault:
        """Pydantic's complaint, at its place, with what to do."""
        path: Path = details["loc"]
        kind = details["type"]
        marks = self._keys if kind == "extra_forbidden" else self._values
        known = path
        while known and known not in marks:
            known = known[:-1]
        mark = marks.get(known, self._values[()])
        message = str(details["msg"])
        if kind == "extra_forbidden":
            message = f"there is no such key here; known are {', '.join(_keys_at(path[:-1]))}"
        elif kind in _MESSAGES:
            message = _MESSAGES[kind]
        elif isinstance(details["input"], str):
            message += f" (got {details['input'][:_SHOWN]!r})"
        return Fault(mark.line + 1, mark.column + 1, ".".join(map(str, path)), message)

    def _plain(self, node: yaml.Node | None, path: Path) -> Any:
        if node is None:
            return None
        self._values[path] = node.start_mark
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(entry, (*path, place)) for place, entry in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return node.value
        found: dict[str, Any] = {}
        for key, value in node.value:
            mark = key.start_mark
            if not isinstance(key, yaml.ScalarNode):
                self.faults.append(Fault(mark.line + 1, mark.column + 1, ".".join(map(str, path)), "a key is a single word"))
                continue
            here = (*path, key.value)
            if key.value in found:
                self.faults.append(Fault(mark.line + 1, mark.column + 1, ".".join(map(str, here)), "is given twice; keep one"))
                continue
            self._keys[here] = mark
            found[key.value] = self._plain(value, here)
        return found


def _keys_at(path: Path) -> list[str]:
    """What may be said in the mapping at ``path``."""
    model: type[BaseModel] = BusinessRules if not path else Audience if path[-1] == "for" else _KINDS[str(path[0])]
    return [field.alias or name for name, field in model.model_fields.items()]
