"""Reads objects of an API server once, for commands that look and go.

What follows a cluster is `kdns.kube.client`; this asks, page by page, and watches nothing.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Self
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Object, Resource, decode_list, decode_object, decode_status
from kdns.kube.credentials import Connection, reason

PAGE = 500
MAX_BODY = 512 << 20
"""Bytes of one page."""
SECONDS = 60.0
_EXPECTED = "expected the API server that the kubeconfig names"


class ReadingError(Exception):
    """What could not be read: one line that says what, and the API server's own words."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        """The HTTP status; 0 when there was none."""


class Reader:
    """Asks one API server. Use it as an async context manager."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session = ClientSession(
            headers={"Accept": "application/json", "User-Agent": "kdns"},
            timeout=ClientTimeout(total=SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any | None:
        """One object as JSON; None when there is none. Raises ReadingError, CredentialsError."""
        try:
            return msgspec.json.decode(await self._body(path))
        except ReadingError as error:
            if error.code == 404:
                return None
            raise
        except msgspec.MsgspecError as error:
            raise ReadingError(f"{path}: not JSON: {error}") from error

    async def items(self, path: str, **query: str) -> list[Any]:
        """All objects of a collection, as JSON. Raises ReadingError, CredentialsError."""
        return [msgspec.json.decode(raw) async for raw in self._raw_items(path, query)]

    async def objects(self, resources: Sequence[Resource]) -> tuple[list[Object], list[str]]:
        """The objects of these resources, and why some were left out.

        Raises ReadingError, CredentialsError.
        """
        found: list[Object] = []
        left_out: list[str] = []
        for resource in resources:
            async for raw in self._raw_items(resource.path, {}):
                try:
                    found.append(decode_object(resource, raw))
                except ObjectError as error:
                    left_out.append(str(error))
        return found, left_out

    async def _raw_items(self, path: str, query: dict[str, str]) -> AsyncIterator[msgspec.Raw]:
        following = ""
        while True:
            asked = {"limit": str(PAGE), **query}
            if following:
                asked["continue"] = following
            try:
                page = decode_list(await self._body(f"{path}?{urlencode(asked)}"))
            except ObjectError as error:
                raise ReadingError(f"{path}: {error}") from error
            for raw in page.items or ():
                yield raw
            following = page.metadata.continue_
            if not following:
                return

    async def _body(self, target: str) -> bytes:
        """The octets of an answer of 200. Raises ReadingError, CredentialsError."""
        connection = self._connection
        authorization = await connection.authorization(None)
        try:
            async with self._session.get(
                connection.server + target,
                headers={"Authorization": authorization} if authorization else {},
                allow_redirects=False,
                ssl=connection.ssl or True,
                server_hostname=connection.server_hostname or None,
                proxy=connection.proxy or None,
            ) as response:
                body = await response.content.read(MAX_BODY + 1)
                while not response.content.at_eof() and len(body) <= MAX_BODY:
                    body += await response.content.read(MAX_BODY + 1 - len(body))
        except TimeoutError as error:
            raise ReadingError(f"{connection.server} does not answer; {_EXPECTED}") from error
        except (ClientError, OSError) as error:
            raise ReadingError(f"{connection.server}: {reason(error)}; {_EXPECTED}") from error
        if len(body) > MAX_BODY:
            raise ReadingError(f"{target}: an answer is longer than {MAX_BODY} bytes")
        if response.status != 200:
            said = decode_status(body).message or f"HTTP {response.status}"
            raise ReadingError(f"{target.partition('?')[0]}: {said}", response.status)
        return body
