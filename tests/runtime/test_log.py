"""The two forms of a process's messages."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from netstack.runtime import log


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_is_time_level_worker_message(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info", "text", "tcp_fwd-1")
    logging.getLogger("services.tcp_fwd").warning("tracker %s", "away")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING tcp_fwd-1 tracker away\n", err)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("debug", "json", "tcp_fwd-1")
    try:
        raise RuntimeError("our bug")
    except RuntimeError as error:
        logging.getLogger("x").critical("two\nlines and %r", "ü", exc_info=error)
    logging.getLogger("x").debug("more")
    first, second = capsys.readouterr().err.splitlines()
    line = json.loads(first)
    assert (line["level"], line["worker"], line["message"]) == ("critical", "tcp_fwd-1", "two\nlines and 'ü'")
    assert "RuntimeError: our bug" in line["exception"]
    assert line["time"] > 0
    assert "exception" not in json.loads(second)


def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("warning", "text", "w")
    logging.getLogger("x").info("not said")
    assert capsys.readouterr().err == ""


def test_libraries_are_not_heard_below_warning(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("debug", "text", "w")
    logging.getLogger("httpcore2").info("connect_tcp.started")
    logging.getLogger("httpcore2").warning("heard")
    assert capsys.readouterr().err.endswith("WARNING w heard\n")


def test_setting_up_again_does_not_say_everything_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info", "text", "w")
    log.set_up("info", "text", "w")
    logging.getLogger("x").info("once")
    assert capsys.readouterr().err.count("once") == 1
