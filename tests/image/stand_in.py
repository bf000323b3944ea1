"""The Dockerfile without an engine: every RUN line in a fresh Debian, and the result asked by dig.

    sudo make image-check

`debootstrap` and Debian's python3 stand in for FROM, a copy of that root for each stage, chroot for
RUN. What pip is told of its index (PIP_*, /etc/pip.conf, certificates) is lent to it while it runs
and is not in the result. The end is started as in container.py, with kubeadm's arguments and
Corefile, in a network namespace of its own, and must answer on port 53.
"""

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.table import Table

from tests.corefiles import KUBEADM_BEFORE
from tests.image.container import UID
from tests.image.dockerfile import Instruction, Stage, expand, read, sent

SOURCE = Path(__file__).parents[2]
KUBEADM = ["-conf", "/etc/coredns/Corefile"]
KUBEADM_MEMORY = 170 * 2**20
LENT = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
RUN = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount -t proc proc "$1/proc" || exit 125
for device in null zero urandom; do
  touch "$1/dev/$device"; mount --bind "/dev/$device" "$1/dev/$device" || exit 125
done
root=$1; directory=$2; shift 2
while [ "$1" != -- ]; do mount --bind "$1" "$root$1" || exit 125; shift; done
shift
exec chroot "$root" env --chdir="$directory" "$@"
"""
console = Console(highlight=False)


def main() -> int:
    """Build, start, ask, and tell the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the roots")
    parser.add_argument("--suite", default="bookworm", help="Debian's (%(default)s)")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    base = work / "base"
    if not base.exists():
        packages = "python3,python3-venv"
        _say("FROM", f"debootstrap {options.suite} with {packages}")
        with (work / "debootstrap.log").open("wb") as log:
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={packages}", options.suite, base],
                check=True,
                stdout=log,
            )
    stages = read((SOURCE / "Dockerfile").read_text())
    image, environment = None, dict[str, str]()
    for number, stage in enumerate(stages):
        image = work / f"stage-{number}"
        environment = _build(stage, base, image, work, [other.name for other in stages])
    assert image is not None
    _ask(image, environment, stages[-1], [])
    console.print("[bold]once more[/], without any capability, low ports being free for all")
    _ask(image, environment, stages[-1], ["--bare"])
    _sizes(image, base)
    return 0


def _build(stage: Stage, base: Path, root: Path, work: Path, names: list[str]) -> dict[str, str]:
    """Do what a stage says, in a copy of the base; the result is what ENV said."""
    if root.exists():
        shutil.rmtree(root)
    subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
    environment: dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}
    arguments: dict[str, str] = {}
    directory = "/"
    for found in stage.instructions:
        _say(found.name, found.text)
        text = expand(found.text, arguments | environment)
        match found.name:
            case "ARG":
                arguments |= Instruction(found.line, found.name, text).pairs()
            case "ENV":
                environment |= Instruction(found.line, found.name, text).pairs()
            case "WORKDIR":
                directory = text
                (root / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                sources = SOURCE
                words = text.split()
                if words[0].startswith("--from="):
                    number = names.index(words.pop(0).removeprefix("--from="))
                    sources = work / f"stage-{number}"
                _copy(sources, words, root / directory.lstrip("/"), root)
            case "RUN":
                _run(found.argv, root, directory, environment | arguments)
            case _:
                pass  # of the image's configuration: read by _ask, or by nobody here
    return environment


def _copy(sources: Path, words: list[str], directory: Path, root: Path) -> None:
    *names, target = words
    place = root / target.lstrip("/") if target.startswith("/") else directory / target
    ignore = (SOURCE / ".dockerignore").read_text() if sources == SOURCE else ""
    for name in names:
        source = sources / name.lstrip("/")
        end = place / source.name if target.endswith("/") else place
        if source.is_file():
            end.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, end)
            continue
        for path in sorted(source.rglob("*")):
            relative = PurePosixPath(path.relative_to(sources))
            if not sent(relative, ignore):
                continue
            inside = end / path.relative_to(source)
            if path.is_dir() and not path.is_symlink():
                inside.mkdir(parents=True, exist_ok=True)
            else:
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, inside, follow_symlinks=False)


def _run(argv: list[str], root: Path, directory: str, environment: dict[str, str]) -> None:
    lent = [path for path in LENT if Path(path).exists()]
    made = []
    for path in lent:
        place = root / path.lstrip("/")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
            made.append(place)
    pip = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
    pip.pop("PIP_FIND_LINKS", None)  # a folder that is not in there
    words = [f"{name}={text}" for name, text in (environment | pip).items()]
    mounted = ["unshare", "--mount", "sh", "-c", RUN, "sh"]
    try:
        subprocess.run(
            [*mounted, str(root), directory, *lent, "--", "-i", *words, *argv],
            check=True,
        )
    finally:
        for place in made:
            place.unlink()


def _ask(root: Path, environment: dict[str, str], stage: Stage, how: list[str]) -> None:
    user = stage.all("USER")[-1].text
    assert user == f"{UID}:{UID}", user
    entry = stage.all("ENTRYPOINT")[-1].argv
    corefile = root.parent / "corefile"
    corefile.mkdir(exist_ok=True)
    (corefile / "Corefile").write_text(KUBEADM_BEFORE)
    state = root.parent / "state"
    state.mkdir(exist_ok=True)
    os.chown(state, UID, UID)
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.9\n")
    binds = [f"{corefile}:/etc/coredns", f"{SOURCE / 'examples/shop'}:/manifests"]
    binds.append(f"{state}:/var/lib/kdns")
    words = [*how, *(f"--bind={bind}" for bind in binds)]
    words += [f"--env={name}={text}" for name, text in environment.items()]
    cgroup = _cgroup()
    if cgroup is not None:
        words.append(f"--cgroup={cgroup.place}")
    more = ["--manifests", "/manifests", "--state-dir", "/var/lib/kdns"]
    inside = [sys.executable, "-m", "tests.image.container", str(root), *words, "--"]
    process = subprocess.Popen(
        ["unshare", "--mount", "--net", *inside, *entry, *KUBEADM, *more],
        stdout=subprocess.PIPE,
        text=True,
        cwd=SOURCE,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            console.print(f"  {line.rstrip()}", style="dim", markup=False, soft_wrap=True)
            if "listening on" in line:
                break
        _get(process.pid, "http://127.0.0.1:8181/ready")
        for words in (
            ["dig", "@127.0.0.1", "+short", "cart.shop.svc.cluster.local"],
            [
                "dig",
                "@127.0.0.1",
                "+short",
                "+tcp",
                "_postgres._tcp.db.shop.svc.cluster.local",
                "SRV",
            ],
            ["dig", "@127.0.0.1", "+short", "-x", "10.96.0.10"],
        ):
            answer = _inside(process.pid, *words)
            console.print(f"$ {' '.join(words)}\n{answer.rstrip()}")
            assert answer.strip(), "no answer"
        status = Path(f"/proc/{process.pid}/status").read_text()
        metrics = _get(process.pid, "http://127.0.0.1:9153/metrics")
        kept = ("process_open_fds", "process_resident_memory_bytes")
        for line in metrics.splitlines():
            if line.startswith(kept):
                console.print(f"  {line}")
        if cgroup is not None:
            most = int((cgroup.place / cgroup.peak).read_text()) / 2**20
            console.print(f"  memory at most: {most:.0f} MiB of {KUBEADM_MEMORY >> 20} MiB")
        wanted = ("Uid", "Gid", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        for line in status.splitlines():
            if line.partition(":")[0] in (*wanted, "VmHWM"):
                console.print(f"  {line.expandtabs()}")
        written = subprocess.run(
            ["nsenter", f"--target={process.pid}", "--mount", "touch", root / "etc/written"],
            check=False, capture_output=True,
        )  # fmt: skip
        assert written.returncode != 0, "the root file system can be written to"
    finally:
        process.terminate()
        process.wait(20)
        if cgroup is not None:
            cgroup.place.rmdir()


@dataclass(frozen=True, slots=True)
class _Cgroup:
    """A control group that may have as much memory as kubeadm allows."""

    place: Path
    peak: str


def _cgroup() -> _Cgroup | None:
    """Of version 2 or 1, whichever has memory here; None where neither has."""
    mounted = Path("/sys/fs/cgroup")
    for parent, limit, peak in (
        (mounted, "memory.max", "memory.peak"),
        (mounted / "memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ):
        place = parent / f"kdns-stand-in-{os.getpid()}"
        try:
            place.mkdir()
        except OSError:
            continue
        if (place / limit).exists():
            (place / limit).write_text(str(KUBEADM_MEMORY))
            return _Cgroup(place, peak)
        place.rmdir()
    console.print("  no control group for memory here: its limit is not tried")
    return None


def _inside(pid: int, *argv: str) -> str:
    """What a command prints in the network namespace of a process."""
    words = ["nsenter", f"--target={pid}", "--net", *argv]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _get(pid: int, url: str) -> str:
    program = (
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    )
    return _inside(pid, sys.executable, "-c", program, url)


def _sizes(root: Path, base: Path) -> None:
    table = Table("what", "MiB", "compressed, MiB")
    for what, folder in (("kdns and its libraries", root / "opt/kdns"), ("the base", base)):
        held = root.parent / "measured.tar.gz"
        with gzip.open(held, "wb", 6) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(folder, "/", filter=_of_an_image)
            size = sum(member.size for member in tar.getmembers())
        table.add_row(what, f"{size / 2**20:.0f}", f"{held.stat().st_size / 2**20:.0f}")
        held.unlink()
    console.print(table)


def _of_an_image(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What apt leaves behind is in no image."""
    return None if f"/{member.name}/".startswith(("/var/cache/apt/", "/var/lib/apt/")) else member


def _say(name: str, text: str) -> None:
    console.print(f"[bold]{name}[/] ", end="")
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
