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

from kdns.kube import embedded, execplugin
from kdns.kube.credentials import (
    BY_NAME,
    Connection,
    CredentialsError,
    Known,
    TlsFiles,
    is_host,
    is_http,
    reason,
)

LOAD_SECONDS = 60.0
"""For what a kubeconfig says to run or to ask before there are credentials."""
_DEFAULT = "~/.kube/config"
_LOADER = "kubernetes.aio.config.kube_config"


@dataclass
class _Settings:
    """What the loader fills in: the fields of its `Configuration` that a connection is made of.

    known: ours, what its files are where they are no files of the user's.
    """

    host: str = ""
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    api_key: dict[str, str] = field(default_factory=dict)
    known: Known = BY_NAME

    @property
    def authorization(self) -> str:
        return self.api_key.get("BearerToken", "")


class _Entry(TypedDict):
    name: str
    context: Mapping[str, str]


class _Node(Protocol):
    """A part of a kubeconfig that remembers where it is: its name, and that of its file."""

    name: str
    value: object
    path: str

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
    file: str = "",
    context: str = "",
    environ: Mapping[str, str] | None = None,
    *,
    patience: float = LOAD_SECONDS,
) -> Connection:
    """The connection of a kubeconfig's context. Raises CredentialsError.

    An empty `file` means what KUBECONFIG of `environ` lists, else `~/.kube/config`; an empty
    `context` the current one. After a 401 the file is read, and its exec plugin run, again.
    `patience` is how long, in seconds, either may take.
    """
    paths = file or (environ or {}).get("KUBECONFIG") or _DEFAULT
    source = _Source(paths, context, patience)
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
    patience: float

    async def load(self) -> _Settings:
        """Read the files and do what they say. Raises CredentialsError."""
        settings = _Settings()
        with self.named():
            # The loader logs a file that is missing, and we say it better.
            module = _import_loader()
            config = module.KubeConfigMerger(self.paths).config if _any_exists(self.paths) else None
            if config is None:
                raise CredentialsError("no such file; expected the one that kubectl uses")
            _rename(config)
            context = self._choose(config)
            loader = module.KubeConfigLoader(config, context, config_base_path=None)
            within = _Within(config, loader, several=pathsep in self.paths)
            try:
                async with asyncio.timeout(self.patience):
                    await loader.load_and_set(settings)
            except TimeoutError:
                why = f"there are no credentials after {self.patience:g} s; run its exec plugin"
                raise CredentialsError(f"{why} by hand to see why") from None
            settings.known = within.known(settings)
            _check(settings, within.user)
        return settings

    def tls(self, settings: _Settings) -> TlsFiles | None:
        """The files of the context for https. Raises CredentialsError."""
        if not settings.host.startswith("https://"):
            return None
        files = (settings.ssl_ca_cert or "", settings.cert_file or "", settings.key_file or "")
        with self.named():
            return TlsFiles(*files, verify=settings.verify_ssl, known=settings.known)

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
    if settings.proxy and not is_http(settings.proxy):  # which may hold a password
        raise CredentialsError("cluster proxy-url: expected an http(s) URL")
    if settings.tls_server_name and not is_host(settings.tls_server_name):
        name = settings.tls_server_name
        raise CredentialsError(f"cluster tls-server-name {name!r}: expected a host name")
    if not settings.authorization.isprintable():
        raise CredentialsError("its token holds what no token does, such as the end of a line")
    if not is_http(settings.host):
        raise CredentialsError(f"cluster server {settings.host!r}: expected an http(s) URL")
    # The loader only logs what an exec plugin died of, and goes on without credentials.
    if user and "exec" in user and not (settings.authorization or settings.cert_file):
        raise CredentialsError(
            "its exec plugin gave no credentials; run the plugin by hand to see why"
        )


def _any_exists(paths: str) -> bool:
    return any(Path(path).expanduser().exists() for path in paths.split(pathsep) if path)


class _Within:
    """What stands within the entries of a context, and what the files are that are made of it.

    several: whether there are several files of which an entry may be. Raises CredentialsError.
    """

    def __init__(self, config: _Node, loader: _Loader, *, several: bool) -> None:
        context = loader.current_context["context"]
        cluster, self.user = (
            _entry(config, kind, context.get(kind)) for kind in ("cluster", "user")
        )
        self._called = f"user {context.get('user')!r}"
        server = _values(cluster).get("server")
        # Without TLS none of it is used, nor read.
        secure = isinstance(server, str) and server.startswith("https")
        found: list[embedded.Embedded | None] = []
        for kind, node, field_name in (
            ("cluster", cluster, "certificate-authority-data"),
            ("user", self.user, "client-certificate-data"),
            ("user", self.user, "client-key-data"),
        ):
            called = f"{kind} {context.get(kind)!r}"
            if several and node is not None:
                called += f" in {node.path}"
            found.append(embedded.read(called, _values(node), field_name) if secure else None)
        self._ca, self._cert, self._key = found

    def known(self, settings: _Settings) -> Known:
        """What the settings' files are, apart from what the user knows by its path."""
        plugin = f"{self._called}, exec plugin's"
        return Known(
            self._one(self._ca, settings.ssl_ca_cert, ""),
            self._one(self._cert, settings.cert_file, f"{plugin} clientCertificateData"),
            self._one(self._key, settings.key_file, f"{plugin} clientKeyData"),
        )

    def _one(self, held: embedded.Embedded | None, file: str | None, otherwise: str) -> str:
        """What a file is: a field's, the user's by its path (empty), or `otherwise`."""
        if not file or (held and held.is_in(file)):
            return held.known if held else ""
        values = _values(self.user)
        paths = (values.get(name) for name in ("client-certificate", "client-key"))
        named = {Path(path).name for path in paths if isinstance(path, str)}
        return otherwise if "exec" in values and Path(file).name not in named else ""


def _entry(config: _Node, kind: str, name: str | None) -> _Node | None:
    """The cluster or user of that name; None where there is none."""
    found = config[f"{kind}s"].get_with_name(name, safe=True) if name else None
    return found[kind] if found else None


def _values(node: _Node | None) -> Mapping[str, object]:
    return node.value if node and isinstance(node.value, dict) else {}


def _rename(config: _Node) -> None:
    """Have no error tell what entries hold: the loader calls each by its text, secrets and all."""
    for kind in ("clusters", "users", "contexts"):
        for entry in cast("list[_Node]", config[kind].value):
            entry.name = f"{kind}[name={entry['name']}]"


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
    vars(module).update(ExecProvider=execplugin.replace(vars(module)["ExecProvider"]))
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
