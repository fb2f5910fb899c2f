"""Reading the configuration: a TOML file, then the environment, then -s, each laid over the one before.

A key in the environment is `NETSTACK_SECTION__KEY`; -s takes `section.key=VALUE`. Both values are TOML, and a bare word
is a string. Every error is a ConfigError that says which key, where it was written, what it is and what is allowed.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from netstack.runtime.config import Config, ConfigError
from netstack.runtime.places import KeyPath, Places, key_text
from netstack.runtime.validate import problems

ENV_PREFIX: Final = "NETSTACK_"

ENV_RESERVED: Final = frozenset({"NETSTACK_RUN_DIR", "NETSTACK_INSTANCE", "NETSTACK_WORKER", "NETSTACK_CONFIG"})
"""Variables of our own that are no configuration keys."""

_DEFAULTS: Final = Config()
_SHOWN: Final = 80  # characters of a value that a message repeats


def load(path: Path | None, settings: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The effective configuration; raises ConfigError, and nothing else, for whatever is wrong with it."""
    text = _read(path) if path is not None else ""
    places = Places(path, text)
    raw = _parse_file(path, text)
    for key, keys, value, place in (*_from_environment(environment), *_from_settings(settings)):
        _lay_over(raw, keys, _value(key, keys, value, place), places, place)
    _refuse_unknown(raw, places)
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise _wrong_type(error, raw, places) from None
    found = [
        f"{problem.name} = {_show(problem.value)} ({places.of(problem.keys)}): {problem.message}"
        for problem in problems(config)
    ]
    if found:
        raise ConfigError("\n".join(found))
    return config


def dump(config: Config) -> str:
    """The whole configuration as TOML that `load` reads back."""
    # Only some commands need it; a service's start does not pay for it.
    import tomli_w  # noqa: PLC0415

    return tomli_w.dumps(msgspec.to_builtins(config))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: a TOML file is UTF-8 text, this is not ({error})") from None


def _parse_file(path: Path | None, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, KeyPath, str, str]]:
    for name, value in sorted(environment.items()):
        if name.startswith(ENV_PREFIX) and name not in ENV_RESERVED:
            keys = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            yield key_text(keys), keys, value, f"environment variable {name}"


def _from_settings(settings: Sequence[str]) -> Iterator[tuple[str, KeyPath, str, str]]:
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"-s {_show(setting)}: must be KEY=VALUE, such as -s dns.timeout=3")
        keys = _dotted(key.strip())
        if not keys:
            raise ConfigError(f"-s {_show(setting)}: {_show(key)} is no key; such as -s dns.timeout=3")
        yield key.strip(), keys, value, "-s"


def _dotted(key: str) -> KeyPath:
    """The parts of a dotted key as TOML understands it, quotes included; empty when it is none."""
    try:
        parsed: Any = tomllib.loads(f"{key} = 0")
    except (ValueError, RecursionError):
        return ()
    keys: list[str] = []
    while isinstance(parsed, dict):
        if len(parsed) != 1:
            return ()
        ((name, parsed),) = parsed.items()
        keys.append(name)
    return tuple(keys)


def _value(key: str, keys: KeyPath, text: str, place: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] in {"[", "{", '"', "'"}:
            raise ConfigError(f"{key} = {_show(text)} ({place}): not valid TOML: {_short(error)}") from None
        return text
    # A name that happens to look like a number or a date is still a name where a string belongs.
    if isinstance(_default(keys), str) and not isinstance(value, str):
        return text
    return value


def _default(keys: KeyPath) -> object:
    value: object = _DEFAULTS
    for key in keys:
        value = getattr(value, key, None) if isinstance(value, msgspec.Struct) else None
    return value


def _lay_over(raw: dict[str, Any], keys: KeyPath, value: object, places: Places, place: str) -> None:
    *parents, leaf = keys
    table = raw
    for depth, parent in enumerate(parents, 1):
        inner = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            table_keys = keys[:depth]
            raise ConfigError(
                f"{key_text(keys)} ({place}): {key_text(table_keys)} is no table but {_show(inner)} "
                f"({places.of(table_keys)})"
            )
        table = inner
    if isinstance(value, dict) and isinstance(table.get(leaf), dict):
        for name, inner in value.items():
            _lay_over(raw, (*keys, name), inner, places, place)
        return
    table[leaf] = value
    places.note(keys, place)


def _refuse_unknown(raw: dict[str, Any], places: Places) -> None:
    found = [
        f"{key_text(keys)} ({places.of(keys)}): unknown key; {_nearest(keys, known)}"
        for keys, known in _unknown(raw, _DEFAULTS, ())
    ]
    if found:
        raise ConfigError("\n".join(found))


def _unknown(table: dict[str, Any], section: msgspec.Struct, above: KeyPath) -> Iterator[tuple[KeyPath, Sequence[str]]]:
    known = section.__struct_fields__
    for key, value in table.items():
        if key not in known:
            yield (*above, key), known
        elif isinstance(value, dict) and isinstance(inner := getattr(section, key), msgspec.Struct):
            yield from _unknown(value, inner, (*above, key))


def _nearest(keys: KeyPath, known: Sequence[str]) -> str:
    import difflib  # noqa: PLC0415 - only for an error; costs 5 ms

    *above, key = keys
    everywhere = [key_text((section, name)) for section in _DEFAULTS.__struct_fields__ for name in _names(section)]
    here = difflib.get_close_matches(key, known, 1)
    if here:
        return f"did you mean {key_text((*above, here[0]))}?"
    elsewhere = difflib.get_close_matches(key_text(keys), everywhere, 1)
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"allowed {'in ' + key_text(tuple(above)) if above else 'here'}: {', '.join(known)}"


def _names(section: str) -> Sequence[str]:
    value = getattr(_DEFAULTS, section)
    return value.__struct_fields__ if isinstance(value, msgspec.Struct) else ()


def _wrong_type(error: msgspec.ValidationError, raw: dict[str, Any], places: Places) -> ConfigError:
    from netstack.runtime.allowed import allowed  # noqa: PLC0415 - only for an error

    # All keys on the path are known ones by now; a key of a table that is not a section shows as [...].
    found = re.search(r" - at `\$([A-Za-z0-9_.\[\]]*)`\Z", str(error))
    steps = re.findall(r"\[?([A-Za-z0-9_]+|\.\.\.)\]?", found.group(1)) if found else []
    value: Any = raw
    keys: list[str] = []
    name = ""
    for step in steps:
        if step == "..." or not isinstance(value, dict | list):
            break
        value = value[int(step)] if isinstance(value, list) else value[step]
        name = f"{name}[{step}]" if step.isdecimal() else f"{name}.{step}".removeprefix(".")
        if not step.isdecimal():
            keys.append(step)
    hint = ""
    if isinstance(value, str) and isinstance(_default(tuple(keys)), list):
        hint = f'; one element is written {name}=["{value}"]'
    return ConfigError(f"{name} = {_show(value)} ({places.of(tuple(keys))}): must be {allowed(steps)}{_short(hint)}")


def _show(value: object) -> str:
    if isinstance(value, str):
        return _short('"' + value.encode("unicode_escape").decode("ascii") + '"')
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return _short(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        return "a very large number"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
