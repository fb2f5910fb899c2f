"""Compiled lists on disk."""

import os
import shutil
from pathlib import Path

import pytest

from services.dns_filter.lists import files
from services.dns_filter.lists.files import Source, Work, compile_lists, generation, open_lists, stamp
from services.dns_filter.names import to_wire


def sources(folder: Path, **contents: str) -> list[Source]:
    found = []
    for name, content in contents.items():
        path = folder / name
        path.write_text(content)
        found.append(Source("allow.lists" if name.startswith("good") else "deny.lists", str(path), str(path)))
    return found


def work(folder: Path, lists: list[Source], name: str = "one") -> Work:
    directory = folder / "compiled"
    directory.mkdir(exist_ok=True)
    return Work(str(directory), name, lists)


def test_what_is_compiled_is_what_is_looked_up(tmp_path: Path) -> None:
    lists = sources(tmp_path, bad="a.example\n@@||b.a.example^\nwhat is this\n", good="c.a.example\n")
    compile_lists(work(tmp_path, lists))
    opened, found = open_lists(tmp_path / "compiled/one", lists)
    assert opened.denied_by(to_wire("x.a.example")).endswith('/bad:1 "a.example"')
    assert opened.denied_by(to_wire("b.a.example")) is None
    assert opened.allowed(to_wire("c.a.example"))
    assert [(each.entries, each.errors, each.failure) for each in found] == [(2, 1, ""), (1, 0, "")]
    assert found[0].first_errors[0][0] == 3


def test_list_that_cannot_be_read_is_reported_and_the_others_hold(tmp_path: Path) -> None:
    lists = [Source("deny.lists", "/x", str(tmp_path / "none")), *sources(tmp_path, bad="a.example\n")]
    compile_lists(work(tmp_path, lists))
    opened, found = open_lists(tmp_path / "compiled/one", lists)
    assert found[0].failure == "No such file or directory"
    assert opened.denied_by(to_wire("a.example")) is not None


def test_list_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_OCTETS", 1 << 20)
    lists = sources(tmp_path, bad="a.example\n" * 300_000)
    compile_lists(work(tmp_path, lists))
    assert open_lists(tmp_path / "compiled/one", lists)[1][0].failure == "more than 1 MiB"


def test_lists_that_say_nothing_can_be_opened(tmp_path: Path) -> None:
    lists = sources(tmp_path, bad="# nothing\n")
    compile_lists(work(tmp_path, lists))
    opened, _ = open_lists(tmp_path / "compiled/one", lists)
    assert opened.denied_by(to_wire("a.example")) is None


def test_next_generation_replaces_the_one_before_and_those_that_were_given_up(tmp_path: Path) -> None:
    lists = sources(tmp_path, bad="a.example\n")
    compile_lists(work(tmp_path, lists))
    opened, _ = open_lists(tmp_path / "compiled/one", lists)
    (tmp_path / "compiled/half.new").mkdir()
    (tmp_path / "compiled/two.new").mkdir()
    compile_lists(work(tmp_path, lists, "two"))
    assert sorted(path.name for path in (tmp_path / "compiled").iterdir()) == ["lock", "two"]
    assert opened.denied_by(to_wire("a.example")) is not None, "what is mapped stays"


def test_generation_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    lists = sources(tmp_path, bad="a.example\n")
    compile_lists(work(tmp_path, lists))
    made = (tmp_path / "compiled/one/report.json").stat().st_mtime_ns
    compile_lists(work(tmp_path, lists))
    assert (tmp_path / "compiled/one/report.json").stat().st_mtime_ns == made


def test_stamp_tells_every_change(tmp_path: Path) -> None:
    lists = sources(tmp_path, bad="a.example\n")
    names = {generation(lists, stamp(lists))}
    os.utime(lists[0].path, ns=(1, 1))
    names.add(generation(lists, stamp(lists)))
    Path(lists[0].path).write_text("b.example and more\n")
    names.add(generation(lists, stamp(lists)))
    replaced = tmp_path / "new"
    shutil.copy2(lists[0].path, replaced)
    replaced.rename(lists[0].path)
    names.add(generation(lists, stamp(lists)))
    Path(lists[0].path).unlink()
    assert stamp(lists) == [None]
    names.add(generation(lists, stamp(lists)))
    assert len(names) == 5


def test_damaged_generation_is_refused(tmp_path: Path) -> None:
    lists = sources(tmp_path, bad="a.example\nb.example\n")
    compile_lists(work(tmp_path, lists))
    made = tmp_path / "compiled/one"
    (made / "deny.marks").write_bytes(bytes(63))
    with pytest.raises(ValueError, match="63 is no size of a table"):
        open_lists(made, lists)
    (made / "deny.names").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="is about 24 octets, not 7"):
        open_lists(made, lists)
    (made / "deny.index").write_bytes(b"")
    with pytest.raises((OSError, ValueError)):
        open_lists(made, lists)


def test_long_names_of_lists_leave_room_for_the_line(tmp_path: Path) -> None:
    lists = [
        Source("deny.lists", f"https://lists.example/{'x' * 100}/ads.txt", sources(tmp_path, bad="a.example")[0].path)
    ]
    compile_lists(work(tmp_path, lists))
    said = open_lists(tmp_path / "compiled/one", lists)[0].denied_by(to_wire("a.example"))
    assert said.endswith('xxx/ads.txt:1 "a.example"')
    assert len(said) < 100
