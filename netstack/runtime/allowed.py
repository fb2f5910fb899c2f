"""What a key of the configuration may be, in words, from the types of its structs."""

from collections.abc import Sequence

from msgspec import inspect

from netstack.runtime.config import Config


def allowed(steps: Sequence[str]) -> str:
    """In words, for the path of a value: field names, decimal indexes, and `...` for a key of a free table."""
    kind: inspect.Type = inspect.type_info(Config)
    for step in steps:
        if isinstance(kind, inspect.StructType):
            kind = next(field.type for field in kind.fields if field.name == step)
        elif isinstance(kind, inspect.ListType):
            kind = kind.item_type
        elif isinstance(kind, inspect.DictType):
            return _words(kind)
    return _words(kind)


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.LiteralType(values):
            return "one of " + ", ".join(f'"{value}"' for value in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return _number(kind)
        case inspect.StrType(pattern=pattern):
            return f"a string that matches {pattern}" if pattern else "a string"
        case inspect.ListType():
            least = "a non-empty array" if kind.min_length else "an array"
            return f"{least}, each element {_words(kind.item_type)}"
        case inspect.DictType():
            return f"a table, each value {_words(kind.value_type)}"
        case inspect.StructType():
            return "a table with " + ", ".join(field.name for field in kind.fields)
        case _:
            return "something else"


def _number(kind: inspect.IntType | inspect.FloatType) -> str:
    name = "an integer" if isinstance(kind, inspect.IntType) else "a number"
    if kind.ge is not None and kind.le is not None:
        return f"{name} from {_plain(kind.ge)} to {_plain(kind.le)}"
    limits = [
        f"{words} {_plain(limit)}"
        for words, limit in (("at least", kind.ge), ("above", kind.gt), ("at most", kind.le), ("below", kind.lt))
        if limit is not None
    ]
    return f"{name} {' and '.join(limits)}".strip()


def _plain(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)
