"""The parts of the mounts that need no namespace."""

from pathlib import Path

from netstack.cli import mounts


def test_resolv_conf_names_the_tunnel_and_nothing_else() -> None:
    lines = mounts.resolv_conf("10.0.0.1").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["nameserver 10.0.0.1", "search .", "options edns0"]


def test_directories_to_mask_exist_once_and_not_below_each_other(tmp_path: Path) -> None:
    (tmp_path / "run" / "nscd").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "var").symlink_to("run")
    names = ["run/nscd", "var/nscd", "missing", "file", "var"]
    assert mounts.existing_directories([tmp_path / name for name in names]) == [tmp_path / "run"]
