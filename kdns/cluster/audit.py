"""An audit looks whether a watch has told everything: names and versions, ours and the server's.

A watch can be wrong and not know it: an event that a server, or something between, has dropped is
missed by nobody. So from time to time the server is asked for the metadata of all objects, page by
page, and each name and resourceVersion is compared with what was told last.

```text
begin      nothing is named
page       named as told: well       otherwise: a suspect
last page  unnamed and no suspect: told, and not there any more
wait       until the watch has come as far as the list, which may have been ahead of it
verdict    suspects that the watch has told of meanwhile are none; the others are faults
```

The list is consistent, and not older than anything that was told before it began: so a difference
that lasts until the watch has passed the list is an event that will never come. What is told of
while the audit goes on is not judged by this one.
"""

from typing import NamedTuple

from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Octets, Resource, decode_identities
from kdns.cluster.sink import Key
from kdns.cluster.versions import Versions

PAGE_LIMIT = 500
"""Objects asked for per page."""
MAX_SUSPECTS = 10_000
"""Suspects kept apart; where there are more, some are faults for certain."""
ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json;q=0.5"
"""Of the request: metadata without the objects, from a server that can."""


class Verdict(NamedTuple):
    """What an audit found.

    wrong: objects that the server has and that were not told, or not in their last state.
    extra: how many were told and are not there any more.
    """

    wrong: tuple[Key, ...]
    extra: int

    @property
    def faults(self) -> int:
        """How many objects were not as they should be."""
        return len(self.wrong) + self.extra

    def __str__(self) -> str:
        named = ", ".join("/".join(filter(None, key)) for key in self.wrong[:3])
        more = f" ({named}{', ...' if len(self.wrong) > 3 else ''})" if named else ""
        return f"{len(self.wrong)} not told{more}, {self.extra} told and gone"


class Audit:
    """One audit of one resource. It begins with the first page.

    `query` is that of the next page.
    """

    def __init__(self, resource: Resource, versions: Versions) -> None:
        self._resource = resource
        self._versions = versions
        self._suspects: dict[int, Key] = {}
        self._continue = ""
        self._version = ""
        versions.begin()
        self._begun = versions.begun

    @property
    def query(self) -> dict[str, str]:
        """Of the request for the next page."""
        return {"limit": str(PAGE_LIMIT), "continue": self._continue}

    def on_page(self, body: Octets) -> bool:
        """Compare one page; whether more are to come.

        Raises ObjectError for what is no page, and when a list has begun meanwhile: what that
        leaves out is not to be called named by this one.
        """
        if self._versions.begun != self._begun:
            raise ObjectError("overtaken by a list")
        page = decode_identities(body)
        kinds = ("PartialObjectMetadataList", f"{self._resource.kind}List")
        if page.kind not in kinds or not page.metadata.resource_version:
            raise ObjectError(f"expected a {kinds[0]}, got {page.kind or 'none'}")
        if self._continue and page.metadata.continue_ == self._continue:
            raise ObjectError("a page is followed by itself")
        versions = self._versions
        for item in page.items or ():
            meta = item.metadata
            key = meta.namespace, meta.name
            if not versions.name(key, meta.resource_version) and len(self._suspects) < MAX_SUSPECTS:
                self._suspects[versions.place(key)] = key
        self._version = page.metadata.resource_version
        self._continue = page.metadata.continue_
        return bool(self._continue)

    @property
    def is_clean(self) -> bool:
        """Whether everything is as it was told, so that there is nothing to wait for."""
        return not self._suspects and not self._versions.unnamed()

    def is_passed(self, version: str) -> bool:
        """Whether a watch that has come to `version` has told all that the list knew.

        Versions are compared as numbers, as the API allows for those of one resource: by length
        first, so that they may have any number of digits.
        """
        if version.isdecimal() and self._version.isdecimal():
            return (len(version), version) >= (len(self._version), self._version)
        return version == self._version

    def verdict(self) -> Verdict:
        """What is wrong for certain. It ends the audit."""
        versions = self._versions
        faults = {p: key for p, key in self._suspects.items() if not versions.is_named(p)}
        extra = versions.unnamed() - sum(map(versions.is_told, faults))
        versions.settle()
        return Verdict(tuple(faults.values()), extra)

    def abandon(self) -> None:
        """End it without a verdict."""
        self._versions.settle()
