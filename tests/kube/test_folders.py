"""Which files stand below some paths, and that no change of them goes unseen."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest
from watchfiles import Change

from kdns.kube import folders
from kdns.kube.folders import find


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def mount(folder: Path, version: str, **files: str) -> None:
    """A ConfigMap as the kubelet mounts it, and swaps it."""
    for name, text in files.items():
        write(folder / f"..{version}" / f"{name}.yaml", text)
        if not (folder / f"{name}.yaml").is_symlink():
            (folder / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").rename(folder / "..data")


def files(*paths: Path) -> list[str]:
    return list(find(paths).files)


def test_a_folder_stands_for_all_manifests_below_it_sorted(tmp_path: Path) -> None:
    wanted = [write(tmp_path / name) for name in ("a.yaml", "b/c.yml", "b/d/e.JSON", "b.json")]
    for other in ("notes.txt", ".hidden.yaml", ".git/x.yaml", "a.yaml~", "Makefile"):
        write(tmp_path / other)
    assert files(tmp_path) == sorted(map(str, wanted))


def test_a_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / ".dump")
    assert files(path) == [str(path)]


def test_paths_count_in_the_order_they_are_given_and_once(tmp_path: Path) -> None:
    first, second = write(tmp_path / "z.yaml"), write(tmp_path / "a.yaml")
    assert files(first, tmp_path, first) == [str(first), str(second)]


def test_links_are_followed_once_even_in_circles(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.yaml")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b.yaml").symlink_to(path)
    (tmp_path / "in" / "broken.yaml").symlink_to("nowhere")
    assert files(tmp_path / "in") == [str(path)]


def test_a_mounted_config_map_has_each_file_once(tmp_path: Path) -> None:
    mount(tmp_path, "v1", a="1", b="1")
    assert files(tmp_path) == [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]


def test_what_is_missing_is_told_and_its_place_is_watched(tmp_path: Path) -> None:
    gone = tmp_path / "not" / "here"
    tree = find([gone])
    assert tree.missing == {
        str(gone): f"{gone}: No such file or directory, expected a file or a folder"
    }
    assert list(tree.folders) == [str(tmp_path)]
    assert tree.concerns(Change.added, str(tmp_path / "not"))
    assert not tree.concerns(Change.added, str(tmp_path / "another"))


def test_a_pipe_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert files(tmp_path) == []
    (line,) = find([tmp_path / "pipe.yaml"]).missing.values()
    assert "neither a file nor a folder" in line


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_FILES", 1)
    write(tmp_path / "a.yaml")
    write(tmp_path / "b.yaml")
    with pytest.raises(folders.ManifestError, match="more than 1 files"):
        find([tmp_path])


class Seen:
    """Follows paths in a task, and lets a test wait until it saw something in them."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.stop = asyncio.Event()
        self.tree = find(paths)
        self.contents: tuple[str, ...] | None = None
        """What the files held at the last look."""
        self._looked = asyncio.Condition()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with aclosing(folders.changes(lambda: self.tree, self.stop)) as changes:
            async for _ in changes:
                self._look()
                async with self._looked:
                    self._looked.notify_all()

    def _look(self) -> None:
        self.tree = find(self.paths)
        self.contents = tuple(Path(path).read_text() for path in self.tree.files)

    async def until(self, *contents: str) -> None:
        async with self._looked:
            await self._looked.wait_for(lambda: self.contents == contents)

    async def end(self) -> None:
        self.stop.set()
        await self._task


async def test_every_way_to_change_a_file_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.yaml", "1")
    seen = Seen(tmp_path / "in")
    await seen.until("1")
    path.write_text("2")
    await seen.until("2")
    write(tmp_path / "new", "3").rename(path)
    await seen.until("3")
    write(tmp_path / "in" / "deep" / "er" / "b.yaml", "4")
    await seen.until("3", "4")
    path.unlink()
    await seen.until("4")
    await seen.end()


async def test_a_file_named_by_itself_is_seen_when_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "1")
    seen = Seen(path)
    await seen.until("1")
    for text in ("2", "3"):
        write(tmp_path / "new", text).rename(path)
        await seen.until(text)
    await seen.end()


@pytest.mark.parametrize("whole", [True, False])
async def test_the_swap_of_a_config_map_is_seen_each_time(tmp_path: Path, whole: bool) -> None:
    mount(tmp_path, "v1", a="1")
    seen = Seen(tmp_path if whole else tmp_path / "a.yaml")
    await seen.until("1")
    mount(tmp_path, "v2", a="2")
    await seen.until("2")
    mount(tmp_path, "v3", a="3")
    await seen.until("3")
    await seen.end()


async def test_a_folder_that_is_replaced_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "v1" / "a.yaml", "1")
    write(tmp_path / "v2" / "a.yaml", "2")
    (tmp_path / "now").symlink_to("v1")
    seen = Seen(tmp_path / "now")
    await seen.until("1")
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "now")
    await seen.until("2")
    write(tmp_path / "v2" / "a.yaml", "3")
    await seen.until("3")
    await seen.end()


async def test_a_folder_that_goes_and_comes_back_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.yaml", "1")
    seen = Seen(tmp_path / "in")
    await seen.until("1")
    path.unlink()
    path.parent.rmdir()
    await seen.until()
    write(path, "2")
    await seen.until("2")
    await seen.end()


async def test_a_file_behind_a_link_is_seen(tmp_path: Path) -> None:
    real = write(tmp_path / "elsewhere" / "real", "1")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.yaml").symlink_to(real)
    seen = Seen(tmp_path / "in")
    await seen.until("1")
    real.write_text("2")
    await seen.until("2")
    await seen.end()


async def test_a_change_before_the_watch_is_seen_by_its_first_look(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "1")
    stop = asyncio.Event()
    tree = find([tmp_path])
    path.write_text("2")
    async with aclosing(folders.changes(lambda: tree, stop)) as changes:
        async for _ in changes:
            assert path.read_text() == "2"
            break


async def test_nothing_is_watched_when_the_stop_came_first(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    tree = find([tmp_path])
    assert [_ async for _ in folders.changes(lambda: tree, stop)] == []


async def test_cancelling_one_watch_does_not_stop_what_shares_its_event(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "1")
    seen = Seen(tmp_path)
    await seen.until("1")
    seen._task.cancel()
    await asyncio.gather(seen._task, return_exceptions=True)
    assert not seen.stop.is_set()
