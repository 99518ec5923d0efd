"""A folder is written as a whole, or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from optim_tools.scaffolding.writing import new_folder, write_files


def test_files_are_there_when_all_of_them_are(tmp_path: Path) -> None:
    target = tmp_path / "new"

    with new_folder(target) as folder:
        write_files(folder, {"a.txt": "a\n", "b/c/d.txt": "é"})
        assert not target.exists()

    assert (target / "b" / "c" / "d.txt").read_bytes() == "é".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_nothing_is_left_of_one_that_was_interrupted(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with new_folder(tmp_path / "new") as folder:
            write_files(folder, {"a.txt": "a"})
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_there_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "new"
    if kind == "file":
        target.touch()
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    before = target.lstat()

    with pytest.raises(FileExistsError), new_folder(target):
        pass

    assert target.lstat().st_ino == before.st_ino
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_appears_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "new"

    with pytest.raises(FileExistsError), new_folder(target):
        target.mkdir()

    assert list(target.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_others_may_read_it_as_any_folder(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()

    with new_folder(tmp_path / "new"):
        pass

    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "new")}
    assert len(modes) == 1
