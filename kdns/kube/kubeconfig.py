"""A kubeconfig is read by the `kubernetes` package, which knows contexts, exec plugins and OIDC.

Its loader is a few hundred lines, but importing it the plain way also imports the generated client
of the whole API: 23 MB and 0.5 s of CPU, for a `Configuration` class that we replace by five
fields. So the loader is imported with those packages standing empty, for 0.5 MB and 0.04 s, and
they are taken away again, so that whoever imports `kubernetes` afterwards gets the real one.
"""

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from os import pathsep
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypedDict, cast

from kdns.kube.credentials import (
    Connection,
    CredentialsError,
    TlsFiles,
    is_http,
    reason,
)

_DEFAULT = "~/.kube/config"
_LOADER = "kubernetes.aio.config.kube_config"


@dataclass
class _Settings:
    """What the loader fills in: the fields of its `Configuration` that a connection is made of."""

    host: str = ""
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    api_key: dict[str, str] = field(default_factory=dict)

    @property
    def authorization(self) -> str:
        return self.api_key.get("BearerToken", "")


class _Entry(TypedDict):
    name: str
    context: Mapping[str, str]


class _Node(Protocol):
    """A part of a kubeconfig that remembers where it is."""

    value: object

    def get_with_name(self, name: str, safe: bool = False) -> "_Node | None":
        """The entry of that name in a list."""

    def __getitem__(self, key: str) -> "_Node":
        """A part; a leaf is its own value."""

    def __contains__(self, key: str) -> bool: ...


class _Loader(Protocol):
    @property
    def current_context(self) -> _Entry: ...

    async def load_and_set(self, client_configuration: _Settings) -> None:
        """Fill in the settings."""


class _Merger(Protocol):
    @property
    def config(self) -> _Node | None: ...


class _LoaderModule(Protocol):
    def KubeConfigMerger(self, paths: str) -> _Merger: ...  # noqa: N802 (theirs)

    def KubeConfigLoader(  # noqa: N802 (theirs)
        self, config_dict: _Node, active_context: str, *, config_base_path: str | None
    ) -> _Loader: ...


async def kubeconfig(
    file: str = "", context: str = "", environ: Mapping[str, str] | None = None
) -> Connection:
    """The connection of a kubeconfig's context. Raises CredentialsError.

    An empty `file` means what KUBECONFIG of `environ` lists, else `~/.kube/config`; an empty
    `context` the current one. After a 401 the file is read, and its exec plugin run, again.
    """
    paths = file or (environ or {}).get("KUBECONFIG") or _DEFAULT
    source = _Source(paths, context)
    settings = await source.load()
    files = source.tls(settings)
    connection = Connection(
        settings.host,
        files.context if files else None,
        files=files,
        server_hostname=settings.tls_server_name or "",
        proxy=settings.proxy or "",
    )
    connection.authorization = _Session(source, settings, connection)
    return connection


class _Session:
    """The `Authorization` of a kubeconfig: what was loaded, until the server refuses it."""

    def __init__(self, source: "_Source", settings: _Settings, connection: Connection) -> None:
        self._source = source
        self._settings = settings
        self._connection = connection
        self._loading = asyncio.Lock()

    async def __call__(self, rejected: str | None) -> str:
        async with self._loading:  # whoever waited here finds what the first one loaded
            if rejected == self._settings.authorization:
                self._settings = await self._source.load()
                files = self._source.tls(self._settings)
                self._connection.files = files
                self._connection.ssl = files.context if files else None
        return self._settings.authorization


@dataclass(frozen=True)
class _Source:
    paths: str
    context: str

    async def load(self) -> _Settings:
        """Read the files and do what they say. Raises CredentialsError."""
        settings = _Settings()
        with self.named():
            # The loader logs a file that is missing, and we say it better.
            module = _import_loader()
            config = module.KubeConfigMerger(self.paths).config if _any_exists(self.paths) else None
            if config is None:
                raise CredentialsError("no such file; expected the one that kubectl uses")
            context = self._choose(config)
            loader = module.KubeConfigLoader(config, context, config_base_path=None)
            await loader.load_and_set(settings)
            _check(settings, _user(config, loader))
        return settings

    def tls(self, settings: _Settings) -> TlsFiles | None:
        """The files of the context for https. Raises CredentialsError."""
        if not settings.host.startswith("https://"):
            return None
        files = (settings.ssl_ca_cert or "", settings.cert_file or "", settings.key_file or "")
        with self.named():
            return TlsFiles(*files, verify=settings.verify_ssl)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have every error name the file, and be a CredentialsError of one line."""
        try:
            yield
        except Exception as error:
            # The loader lets a wrong shape surface as whatever it trips over: KeyError, TypeError.
            what = reason(error)
            if isinstance(error, OSError) and error.filename not in (None, self.paths):
                what = f"{error.filename}: {what}"
            if not isinstance(error, CredentialsError | OSError) and not _is_config(error):
                what = f"expected a kubeconfig ({type(error).__name__}: {what})"
            raise CredentialsError(f"kubeconfig {self.paths}: {what}") from error

    def _choose(self, config: _Node) -> str:
        entries = cast("list[_Entry]", config["contexts"].value)
        names = [entry["name"] for entry in entries]
        current = str(config["current-context"]) if "current-context" in config else ""
        chosen = self.context or current
        if chosen in names:
            return chosen
        known = ", ".join(names) or "none"
        if not chosen:
            raise CredentialsError(f"no current-context; name one of its contexts: {known}")
        raise CredentialsError(f"no context {chosen!r}; its contexts are: {known}")


def _check(settings: _Settings, user: _Node | None) -> None:
    if not is_http(settings.host):
        raise CredentialsError(f"cluster server {settings.host!r}: expected an http(s) URL")
    # The loader only logs what an exec plugin died of, and goes on without credentials.
    if user and "exec" in user and not (settings.authorization or settings.cert_file):
        raise CredentialsError(
            "its exec plugin gave no credentials; run the plugin by hand to see why"
        )


def _any_exists(paths: str) -> bool:
    return any(Path(path).expanduser().exists() for path in paths.split(pathsep) if path)


def _user(config: _Node, loader: _Loader) -> _Node | None:
    name = loader.current_context["context"].get("user")
    entry = config["users"].get_with_name(name, safe=True) if name else None
    return entry["user"] if entry else None


def _is_config(error: Exception) -> bool:
    return type(error).__name__ == "ConfigException"


@cache
def _import_loader() -> _LoaderModule:
    """Raises CredentialsError when the package is not installed."""
    try:
        with _hollow_packages():
            module = importlib.import_module(_LOADER)
    except ImportError as error:
        try:
            module = importlib.import_module(_LOADER)  # laid out unlike what we know
        except ImportError:
            why = "is needed to read it: pip install kubernetes"
            raise CredentialsError(f"the package kubernetes {why} ({error})") from error
    return cast("_LoaderModule", module)


@contextmanager
def _hollow_packages() -> Iterator[None]:
    """Within, the packages around the loader import nothing; unless they are there already."""
    spec = None if "kubernetes" in sys.modules else importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        yield
        return
    root = Path(spec.submodule_search_locations[0])
    for name in ("kubernetes", "kubernetes.aio", "kubernetes.aio.client"):
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    vars(sys.modules["kubernetes.aio.client"]).update(ApiClient=object, Configuration=_Settings)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "kubernetes"]:
            del sys.modules[name]
