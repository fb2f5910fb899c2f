"""The file of a host's secret key."""

import os
from pathlib import Path

import pytest

from netstack.runtime import keys
from netstack.wire.curve import public_of

SECRET = bytes(range(32))


def test_a_fresh_key_is_its_owners_alone_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "links.key"
    before = os.umask(0)
    try:
        public = keys.generate(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_of(keys.read(path)) == public
    assert public.hex() in path.read_text()


def test_two_keys_differ(tmp_path: Path) -> None:
    assert keys.generate(tmp_path / "a") != keys.generate(tmp_path / "b")


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "links.key"
    path.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for there in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            keys.generate(there)
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        pytest.param(None, 0o600, "no such file; make it: netstack keys ", id="no file"),
        pytest.param("", 0o600, "holds no key", id="an empty file"),
        pytest.param('secret = "00"', 0o600, "holds no key", id="too short"),
        pytest.param(f'secret = "{SECRET.hex()}00"', 0o600, "holds no key", id="too long"),
        pytest.param("secret = 1", 0o600, "holds no key", id="a number"),
        pytest.param("\xff" * 8, 0o600, "holds no key", id="no TOML"),
        pytest.param(f'secret = "{SECRET.hex()}"', 0o640, "mode 0640", id="readable by its group"),
        pytest.param(f'secret = "{SECRET.hex()}"', 0o604, "chmod 600", id="readable by everybody"),
    ],
)
def test_what_is_no_good_key_is_refused_and_never_repeated(tmp_path: Path, text, mode: int, said: str) -> None:
    path = tmp_path / "links.key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ValueError, match=said) as raised:
        keys.read(path)
    assert SECRET.hex()[:8] not in str(raised.value)


def test_a_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read by user"):
        keys.read(tmp_path)
