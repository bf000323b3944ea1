"""A cluster from files: what a sink is told of them at first, and what when they change."""

import asyncio
import errno
import json
import logging
import os
from collections.abc import Container, Mapping
from pathlib import Path

import pytest

from kdns.cluster.objects import Object, Pod, Resource, Service
from kdns.cluster.selectors import FieldSelector, parse_field_selector, parse_label_selector
from kdns.cluster.sink import Key
from kdns.kube import manifests as module
from kdns.kube.manifests import ManifestError, Manifests, load

ROOT = Path(__file__).parents[2]
DUMP = ROOT / "tests" / "data" / "conformance" / "cluster.json"
CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")


class Recorder:
    """A sink that holds what it is told, and lets a test wait for a state."""

    def __init__(self) -> None:
        self.held: dict[Resource, dict[Key, Object]] = {resource: {} for resource in Resource}
        self.applied: list[str] = []
        self.swept: list[Resource] = []
        self._told = asyncio.Event()

    def apply(self, resource: Resource, obj: Object) -> None:
        meta = obj.metadata
        self.held[resource][meta.namespace, meta.name] = obj
        self.applied.append(f"{resource.kind} {meta.name}")

    def remove(self, resource: Resource, key: Key) -> None:
        raise AssertionError("manifests only sweep")

    def assume(self, resource: Resource) -> None:
        raise AssertionError("nothing is remembered here")

    def sweep(self, resource: Resource, keys: Container[Key]) -> None:
        kept = {key: obj for key, obj in self.held[resource].items() if key in keys}
        assert set(kept) == keys
        self.held[resource] = kept
        self.swept.append(resource)
        self._told.set()

    def names(self, resource: Resource = Resource.SERVICES) -> list[str]:
        return sorted(name for _, name in self.held[resource])

    async def until_swept(self, times: int = 1) -> None:
        """Wait until all four were swept so many times more."""
        wanted = len(self.swept) + times * len(Resource)
        while len(self.swept) < wanted:
            self._told.clear()
            await self._told.wait()

    async def until_names(self, *names: str) -> None:
        while self.names() != list(names):
            self._told.clear()
            await self._told.wait()


def service(name: str, address: str = "None", **metadata: object) -> str:
    meta = {"name": name, "namespace": "shop", **metadata}
    spec = {"clusterIP": address}
    obj = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
    return json.dumps(obj) + "\n"


def write(path: Path, *documents: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents))
    return path


def services(recorder: Recorder) -> Mapping[str, str | None]:
    held = recorder.held[Resource.SERVICES].items()
    return {name: obj.spec.cluster_ip for (_, name), obj in held if isinstance(obj, Service)}


def told(manifests: Manifests) -> Recorder:
    recorder = Recorder()
    manifests.apply_to(recorder)
    return recorder


def test_everything_is_applied_namespaces_first_and_each_resource_is_swept(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"), service("b"))
    recorder = told(Manifests([tmp_path]))
    assert recorder.applied == ["Namespace shop", "Service a", "Service b"]
    assert sorted(recorder.swept, key=str) == sorted(Resource, key=str)


def test_only_the_resources_that_are_asked_for_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    recorder = told(Manifests([tmp_path], resources={Resource.SERVICES}))
    assert recorder.applied == ["Service a"]
    assert recorder.swept == [Resource.SERVICES]


def test_load_gives_pairs_of_resource_and_object(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    assert [(r, o.metadata.name) for r, o in load([path])] == [
        (Resource.NAMESPACES, "shop"),
        (Resource.SERVICES, "a"),
    ]


def test_a_dump_of_a_cluster_is_that_cluster(caplog: pytest.LogCaptureFixture) -> None:
    loaded = load([DUMP])
    items = json.loads(DUMP.read_bytes())["items"]
    expected = {(item["kind"], item["metadata"]["name"]) for item in items}
    assert {(resource.kind, obj.metadata.name) for resource, obj in loaded} == expected
    assert len(loaded) == len(items)
    assert not caplog.records


def test_the_example_is_read_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    loaded = load([ROOT / "examples" / "shop"], service_cidrs=CIDRS)
    kinds = {resource for resource, _ in loaded}
    assert kinds == set(Resource)
    for _, obj in loaded:
        if isinstance(obj, Service) and obj.spec.type != "ExternalName":
            assert obj.spec.cluster_ip
    assert not caplog.records


def test_a_namespace_that_an_object_names_exists_and_bears_its_name(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    write(
        tmp_path / "b.yaml", '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}'
    )
    held = told(Manifests([tmp_path])).held[Resource.NAMESPACES]
    assert sorted(held) == [("", "shop"), ("", "x")]
    for (_, name), namespace in held.items():
        assert namespace.metadata.labels == {"kubernetes.io/metadata.name": name}


def test_the_namespace_default_exists_only_when_it_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    assert told(Manifests([path])).names(Resource.NAMESPACES) == ["shop"]
    write(path, service("a", namespace=""))
    assert told(Manifests([path])).names(Resource.NAMESPACES) == ["default"]


def test_of_two_objects_of_one_name_the_later_file_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "b.yaml", service("a", "10.0.0.2"))
    write(tmp_path / "a.yaml", service("x"), service("a", "10.0.0.1"))
    assert services(told(Manifests([tmp_path])))["a"] == "10.0.0.2"
    assert caplog.messages == [
        f"{tmp_path}/b.yaml:1: Service shop/a is also at {tmp_path}/a.yaml:3: the later one holds"
    ]
    assert services(told(Manifests([tmp_path / "b.yaml", tmp_path / "a.yaml"])))["a"] == "10.0.0.1"


def test_a_malformed_document_is_told_and_costs_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(
        tmp_path / "a.yaml", service("a"), "a: b: c\n", service("b", labels={"x": 1}), service("c")
    )
    assert told(Manifests([tmp_path])).names() == ["a", "c"]
    assert [(r.name, r.levelno) for r in caplog.records] == [("kdns.kube", logging.ERROR)] * 2
    assert caplog.messages == [
        f"{tmp_path}/a.yaml:3: mapping values are not allowed in this context, expected YAML",
        f"{tmp_path}/a.yaml:5: Service shop/b: label 'x' is 1, expected text: write it in quotes",
    ]


def test_a_file_too_large_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1024 * 1024)
    write(tmp_path / "a.yaml", service("a", annotations={"x": "y" * 3_000_000}))
    write(tmp_path / "b.yaml", service("b"))
    assert told(Manifests([tmp_path])).names() == ["b"]
    assert caplog.messages == [f"{tmp_path}/a.yaml: 3 MiB, expected at most 1 MiB"]


@pytest.mark.parametrize("good_first", [True, False])
def test_a_path_that_is_not_there_at_the_start_is_an_error(
    tmp_path: Path, good_first: bool
) -> None:
    gone = tmp_path / "gone"
    paths = [tmp_path, gone] if good_first else [gone, tmp_path]
    with pytest.raises(ManifestError, match="expected a file or a folder") as refused:
        load(paths)
    assert str(refused.value).startswith(f"{gone}: No such file")
    assert "\n" not in str(refused.value)


def test_a_range_that_is_none_is_an_error() -> None:
    with pytest.raises(ManifestError, match=r"service CIDR '10\.0\.0\.0/33'"):
        Manifests([], service_cidrs=["10.0.0.0/33"])


def test_cluster_ips_do_not_depend_on_which_file_holds_what(tmp_path: Path) -> None:
    texts = [service(f"s{i}", "") for i in range(20)]
    write(tmp_path / "one" / "a.yaml", *texts)
    for i, text in enumerate(reversed(texts)):
        write(tmp_path / "many" / f"{i}.yaml", text)
    one = services(told(Manifests([tmp_path / "one"], service_cidrs=CIDRS)))
    many = services(told(Manifests([tmp_path / "many"], service_cidrs=["10.96.0.0/16"])))
    assert one == many
    assert len(set(one.values())) == 20


def test_a_service_that_cannot_have_a_cluster_ip_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.yaml", service("a"), service("b", ""))
    assert told(Manifests([tmp_path])).names() == ["a", "b"]
    assert caplog.messages == [
        f"{tmp_path}/a.yaml:3: Service shop/b: no clusterIP, and no service CIDR to assign one from"
    ]


def test_selectors_hold_as_for_an_api_server(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a", labels={"tier": "gold"}), service("b"))
    pod = "{{apiVersion: v1, kind: Pod, metadata: {{name: {0}}}, {1}}}\n"
    write(
        tmp_path / "b.yaml",
        pod.format("new", ""),
        pod.format("old", "status: {phase: Succeeded}"),
        pod.format("here", "spec: {nodeName: n1}, status: {phase: Running}"),
    )
    everything = FieldSelector()
    selectors = {
        Resource.SERVICES: (parse_label_selector("tier=gold"), everything),
        Resource.NAMESPACES: (
            parse_label_selector("kubernetes.io/metadata.name in (shop)"),
            everything,
        ),
        Resource.PODS: (
            parse_label_selector(""),
            parse_field_selector("status.phase!=Succeeded,metadata.name!=new,spec.nodeName=n1"),
        ),
    }
    recorder = told(Manifests([tmp_path], selectors=selectors))
    assert recorder.names() == ["a"]
    assert recorder.names(Resource.NAMESPACES) == ["shop"]
    assert recorder.names(Resource.PODS) == ["here"]
    (kept,) = recorder.held[Resource.PODS].values()
    assert isinstance(kept, Pod)


def test_a_mounted_config_map_is_no_conflict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "..v1" / "a.yaml", service("a"))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert told(Manifests([tmp_path])).names() == ["a"]
    assert not caplog.records


class Watched:
    """Manifests that a task watches, as `async with`; the first look is over when it is entered."""

    def __init__(self, *paths: Path) -> None:
        self.recorder = Recorder()
        self._manifests = Manifests(paths)
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Recorder:
        self._manifests.apply_to(self.recorder)
        self._task = asyncio.create_task(self._manifests.watch(self.recorder, self._stop))
        await self.recorder.until_swept()
        self.recorder.applied.clear()
        return self.recorder

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task


async def test_of_a_change_only_what_is_new_or_other_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"), service("b"), service("c"))
    async with Watched(tmp_path) as recorder:
        replacement = write(tmp_path / "new", service("b"), service("c", "10.0.0.1"), service("d"))
        replacement.rename(path)
        await recorder.until_names("b", "c", "d")
        assert recorder.applied == ["Service c", "Service d"]


async def test_a_change_before_the_watch_is_told_when_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    manifests, recorder, stop = Manifests([path]), Recorder(), asyncio.Event()
    manifests.apply_to(recorder)
    write(path, service("b"))
    task = asyncio.create_task(manifests.watch(recorder, stop))
    await recorder.until_names("b")
    stop.set()
    await task


async def test_a_watch_may_be_the_first_to_read(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    recorder, stop = Recorder(), asyncio.Event()
    task = asyncio.create_task(Manifests([tmp_path]).watch(recorder, stop))
    await recorder.until_names("a")
    stop.set()
    await task
    with pytest.raises(ManifestError):
        await Manifests([tmp_path / "gone"]).watch(recorder, asyncio.Event())


async def test_a_watch_can_be_cancelled(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    recorder = Recorder()
    task = asyncio.create_task(Manifests([tmp_path]).watch(recorder, asyncio.Event()))
    await recorder.until_names("a")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_new_or_gone_in_a_folder_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    async with Watched(tmp_path) as recorder:
        write(tmp_path / "deep" / "b.yaml", service("b"))
        await recorder.until_names("a", "b")
        path.unlink()
        await recorder.until_names("b")
        assert recorder.applied == ["Service b"]


async def test_the_swap_of_a_config_map_is_told(tmp_path: Path) -> None:
    write(tmp_path / "..v1" / "a.yaml", service("a"))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with Watched(tmp_path) as recorder:
        for name in ("b", "c"):
            write(tmp_path / f"..{name}" / "a.yaml", service(name))
            (tmp_path / "..data_tmp").symlink_to(f"..{name}")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
            await recorder.until_names(name)


@pytest.mark.parametrize("broken", ["a: 'b\n", "", "{apiVersion: v1, kind: Service}\n"])
async def test_a_file_caught_half_written_keeps_its_objects_until_it_is_whole(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.yaml", service("a"), service("b"))
    other = write(tmp_path / "b.yaml", service("x"))
    async with Watched(tmp_path) as recorder:
        write(tmp_path / "new", *filter(None, (broken and service("a"), broken))).rename(path)
        write(tmp_path / "new", service("y")).rename(other)
        await recorder.until_names("a", "b", "y")
        assert f"{path}: " in caplog.text
        assert "kept the 2 objects it held before" in caplog.text
        write(tmp_path / "new", service("c")).rename(path)
        await recorder.until_names("c", "y")


async def test_a_path_that_goes_keeps_its_objects_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    other = write(tmp_path / "b.yaml", service("x"))
    async with Watched(path, other) as recorder:
        path.unlink()
        write(tmp_path / "new", service("y")).rename(other)
        await recorder.until_names("a", "y")
        assert f"{path}: No such file or directory, expected a file or a folder" in caplog.messages
        write(tmp_path / "new", service("b")).rename(path)
        await recorder.until_names("b", "y")


def test_what_is_wrong_is_said_once_as_long_as_it_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.yaml", service("a"), "a: b: c\n")
    manifests = Manifests([tmp_path])
    manifests.read()
    write(tmp_path / "b.yaml", service("b"))
    manifests.read()
    assert len(caplog.messages) == 1
    write(tmp_path / "a.yaml", service("a"))
    manifests.read()
    write(tmp_path / "a.yaml", service("a"), "a: b: c\n")
    manifests.read()
    assert len(caplog.messages) == 3


def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = write(tmp_path / "a.yaml", service("a"))
    monkeypatch.setattr(module, "open", refuse, raising=False)
    assert told(Manifests([tmp_path])).names() == []
    assert caplog.messages == [f"{path}: Permission denied, expected a file"]


# Nothing at all.


def test_a_folder_without_an_object_is_an_error_for_who_looks_once(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=f"{tmp_path}: nothing of a cluster; expected what kubectl"
    ):
        load([tmp_path])


def test_a_folder_without_an_object_is_told_by_who_waits_for_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(Manifests([tmp_path])).names() == []
    assert [message.endswith("; waiting for some") for message in caplog.messages] == [True]
