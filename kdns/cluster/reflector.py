"""A reflector keeps a sink equal to one collection of the API server, by list and watch.

A list gives every object and the resourceVersion at which that was true; a watch from there gives
every change since. So list once, watch for ever: each event and each bookmark moves the version
on, and a watch that ends goes on from the last one. Only when the server no longer has the
history from there (410) is everything listed again. The rules are those of "Efficient detection
of changes" in the Kubernetes API concepts.

Where the server offers it, the list is streamed: one watch that begins with the state, object by
object (`sendInitialEvents`), and goes on with the changes after a bookmark that says so. Where it
does not (400, 422, or a bookmark without that mark), the list comes in pages. When either way
fails, the other one is tried next: to make progress is better than to insist.

```text
          state, or a page, more to come                    event, bookmark;
                 +------+                                   end, loss, 429, 5xx: watch again
                 |      |                                   from the last version
                 v      |      last page, or                    +------+
            +---------------+  the mark: sweep            +-----v------+--+
  start --> |    listing    | ------------------------>   |   watching    |
            +---------------+                             +---------------+
                 ^      | 410 or 400 for                       |
                 |      | the continue token                   | 410 in any form, 400, ERROR,
                 +------+                                      | a line that is no event,
                 ^                                             | two watches without a line,
                 +---------------------------------------------+ an audit that found a fault
```

Three things follow from what the sink promises to those who ask it:

- A relist never empties it. Objects are applied as they come, and what was not named is swept
  at the end.
- A malformed object costs itself: it is reported, and owns no names, as in a fresh list.
- A 200 that is no list of ours (a proxy's page, say) is a failure and not an empty cluster; and
  a stream that ends without an object is one only when a list in pages says so too.

The reflector does no I/O and knows no time. The shell asks `next_request`, tells what came of it
through one of the `on_...` methods, and waits for as long as the `Pause` it gets back says.
"""

from array import array
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode

import msgspec

from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import (
    EventType,
    Identity,
    Meta,
    Octets,
    Resource,
    Status,
    WatchEvent,
    decode_bookmark,
    decode_event,
    decode_identity,
    decode_list,
    decode_object,
    decode_status,
)
from kdns.cluster.sink import Key, Sink
from kdns.cluster.versions import Places, Versions

PAGE_LIMIT = 500
"""Objects asked for per page of a list."""
WATCH_SECONDS = (300, 600)
"""Range of `timeoutSeconds`: random, so that many reflectors do not come back at one moment."""
BACKOFF_FIRST = 1.0
BACKOFF_CAP = 30.0
MAX_SAID = 1000
"""Characters of what the server says of a failure that are handed on."""
BRIEF_TRIES = 3
"""How far the waits after brief watches grow: beyond 4 seconds, changes would be told too late."""
RETRY_AFTER_CAP = 300.0
"""Seconds. The longest Retry-After obeyed: beyond it, one more question is the lesser evil."""


class Chance(Protocol):
    """The two methods of `random.Random` that a reflector uses."""

    def random(self) -> float:
        """A number of [0, 1)."""

    def randint(self, a: int, b: int, /) -> int:
        """A number of [a, b]."""


class ListRequest(NamedTuple):
    """GET one page. `target` is path and query."""

    target: str


class WatchRequest(NamedTuple):
    """GET a stream of lines. The server ends it after `timeout` seconds."""

    target: str
    timeout: int


class Pause(NamedTuple):
    """What the shell does before it asks `next_request` again."""

    delay: float = 0.0
    """Seconds to wait."""
    refresh: bool = False
    """Whether the credentials last used were refused, and fresh ones are needed."""


GO_ON = Pause()


def full_jitter(tries: int, rng: Chance) -> float:
    """Seconds to wait after the `tries`-th failure in a row: anything up to a doubling bound."""
    return rng.random() * min(BACKOFF_CAP, BACKOFF_FIRST * 2.0 ** min(tries - 1, 10))


def _ignore(_message: str) -> None:
    """Nobody wants to know."""


class Reflector:
    """The state machine of one resource.

    `failure` says, in one line, what is wrong at the moment; it is empty when nothing is. It does
    not change while the same thing goes on being wrong. `synced` turns true when the first list
    has ended, and stays so. `lists` counts the lists that were begun. `versions` is what was told.

    stream: whether to ask for streamed lists.
    holds: whether the sink may hold objects already, of an earlier time.
    """

    def __init__(
        self,
        resource: Resource,
        sink: Sink,
        rng: Chance,
        *,
        label_selector: str = "",
        field_selector: str = "",
        stream: bool = True,
        holds: bool = False,
        on_bad_object: Callable[[str], object] = _ignore,
    ) -> None:
        self.resource = resource
        self.failure = ""
        self.synced = False
        self.lists = 0
        self.versions = Versions(resource)
        self._sink = sink
        self._rng = rng
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._selectors = {name: text for name, text in selectors.items() if text}
        self._on_bad_object = on_bad_object
        self._holds = holds
        self._version = ""  # empty while listing
        self._continue = ""
        self._stream = stream
        self._streaming = stream  # how the present list, or the next one, is asked for
        self._listing = False  # a list has begun
        # The places of what a list has named. Keys would stand between what stays, and leave holes.
        self._named = array("q")
        self._failures = 0  # in a row
        self._restarts = 0  # lists begun again since a watch last lasted
        self._brief = 0  # watches in a row that told something and were soon over
        self._silent = 0  # watches in a row that ended without a line
        self._asked_from = ""  # the version of the present watch, or of the next one
        self._heard = False  # the present watch told something
        self._lasting = False  # and went on
        self._refreshed = False  # credentials were refreshed, and nothing has succeeded since

    @property
    def version(self) -> str:
        """The resourceVersion up to which everything has been told; empty while listing."""
        return self._version

    @property
    def streams(self) -> bool:
        """Whether the server streams lists, as far as we know."""
        return self._stream

    def next_request(self) -> ListRequest | WatchRequest:
        """What to ask the server now."""
        if not self._version and not self._streaming:
            query = {"limit": str(PAGE_LIMIT), "continue": self._continue}
            return ListRequest(self.target(query))
        self._asked_from = self._version
        timeout = self._rng.randint(*WATCH_SECONDS)
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout),
        }
        if not self._version:
            # Streamed lists, meta/v1 ListOptions: without a version, as fresh as a quorum has it.
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return WatchRequest(self.target(query), timeout)

    def target(self, query: dict[str, str]) -> str:
        """Path and query of a request for what is followed; empty values are left out."""
        given = {name: text for name, text in query.items() if text} | self._selectors
        return f"{self.resource.path}?{urlencode(given, quote_via=quote, safe='')}"

    def relist(self) -> None:
        """List from the beginning: something is wrong that no watch has told of."""
        self._version = self._continue = ""
        self._forget_list()

    def on_page(self, body: Octets) -> Pause:
        """The server answered a list with 200 and `body`."""
        steps = self.take_page(body)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                told: Pause = ended.value
                return told

    def take_page(self, body: Octets) -> Generator[None, None, Pause]:
        """As `on_page`, object by object: those who ask need not wait for all of a page.

        It is to be driven to its end, with nothing else told in between.
        """
        try:
            page = decode_list(body)
        except ObjectError as error:
            return self._fail(str(error))
        if self._continue and page.metadata.continue_ == self._continue:
            return self._restart("a page is followed by itself")
        # Every field of a list is optional to the decoder: `{}` would read as an empty cluster.
        if page.kind != f"{self.resource.kind}List" or not page.metadata.resource_version:
            return self._fail(f"expected a {self.resource.kind}List, got {page.kind or 'none'}")
        self._begin_list()
        for raw in page.items or ():
            self._list_object(raw)
            yield
        self._succeed()
        self._failures = 0
        self._continue = page.metadata.continue_
        if not self._continue:
            self._end_list(page.metadata.resource_version)
        return GO_ON

    def on_watch_start(self) -> Pause | None:
        """The server answered a watch with 200: the credentials and the rights are good.

        None: read on; else: leave this watch, as after `on_watch_line`.
        """
        self._heard = self._lasting = False
        self._succeed()
        if not self._version:
            if self._asked_from:
                return GO_ON  # to list was asked for after this
            self._forget_list()
            self._begin_list()
        return None

    def on_watch_line(self, line: bytes) -> Pause | None:
        """One line of the watch, without its newline. None: read on; else: leave this watch.

        A blank one tells nothing and is wrong with nothing: JSON may stand between blanks.
        """
        if not self._version and not self._listing:
            return GO_ON  # to list was asked for after this
        try:
            event = decode_event(line)
            if event.type is EventType.ERROR:
                return self._on_error(decode_status(bytes(event.object)))
            if not self._version:
                return self._on_initial(event)
            self._on_event(event)
        except ObjectError as error:
            return self._restart(str(error)) if line.strip() else None
        self._heard = True
        self._failures = self._silent = 0
        return None

    def on_watch_lasting(self) -> None:
        """The watch has been open for a while: if it told something, all is well again.

        To have told something is not enough: a server may do so and then fail, at once and for
        ever, and would be asked for lists as fast as it gives them.
        """
        if self._heard:
            self._lasting = True
            self._restarts = self._brief = 0

    def on_watch_end(self) -> Pause:
        """The server ended the watch in good order, or has said nothing for too long.

        It ends one after `timeoutSeconds`; one that is silent may be of a connection half dead.

        A healthy server has sent at least a bookmark by then. Two watches without a line may mean
        a version from a future that is no more (etcd restored from a backup): the server accepts
        it and says nothing for ever. So the second is followed by a list.

        One that told something and was soon over is followed by the next at once; several in a
        row, after pauses.
        """
        if not self._version:
            return self._fail("the stream ended before all was told")
        if self._heard:
            self._brief += not self._lasting
            tries = min(self._brief - 1, BRIEF_TRIES)
            return Pause(full_jitter(tries, self._rng)) if tries > 0 else GO_ON
        self._silent += 1
        if self._silent == 1:
            return GO_ON
        self._silent = 0
        self._restarts += 1  # asks for the back-off that a first restart does without
        return self._restart("two watches ended without a line")

    def on_status(self, code: int, body: Octets, headers: Mapping[str, str]) -> Pause:
        """The server answered with a status other than 200.

        `headers` is asked for `Retry-After` and `Date` only.
        """
        status = decode_status(body)
        said = _said(status)
        if code == 401:
            return self._on_unauthorized(said)
        if code in (400, 422) and self._streaming and not self._version:
            # What validation says where the feature is off, or not known yet.
            return self._do_not_stream()
        # 400 blames what the server itself gave us earlier, a token or a version: let go of it.
        if code == 410 or (code == 400 and (self._continue or self._version)):
            return self._restart(f"HTTP {code}: {said}")
        if code == 403:
            return self._on_forbidden(said)
        if code == 404:
            where = self.resource.api_version
            return self._fail(f"not served by this API server in {where}: {said}")
        # A list in pages costs a server that has too much to do more than a stream.
        pause = self._fail(f"HTTP {code}: {said}", insist=code == 429)
        return pause._replace(delay=max(pause.delay, retry_after(headers)))

    def on_connection_lost(self, reason: str) -> Pause:
        """No answer came, or it broke off. `reason` in one line, without what differs each time."""
        return self._fail(reason)

    def _begin_list(self) -> None:
        if not self._listing:
            self._listing = True
            self.lists += 1
            self.versions.begin()

    def _forget_list(self) -> None:
        """Of a list that did not come to its end, nothing that it named counts."""
        self._listing = False
        self._named = array("q")
        self.versions.settle()

    def _list_object(self, raw: msgspec.Raw) -> None:
        try:
            obj = decode_object(self.resource, raw)
        except ObjectError as error:
            # Not among the keys: the sweep ends what it had, as if it had never been.
            self._on_bad_object(str(error))
            with suppress(ObjectError):
                meta = decode_identity(raw)
                self.versions.put(_key(meta), meta.resource_version)
            return
        key = _key(obj.metadata)
        self._named.append(Versions.place(key))
        self.versions.put(key, obj.metadata.resource_version)
        self._sink.apply(self.resource, obj)

    def _end_list(self, version: str) -> None:
        self._version = version
        self._sink.sweep(self.resource, Places(self._named))
        self.versions.sweep()
        self._named = array("q")
        self._listing = False
        self._streaming = self._stream
        self._silent = 0
        self.synced = self._holds = True

    def _on_initial(self, event: WatchEvent) -> Pause | None:
        """One line of a streamed list. Raises ObjectError when the stream is of no use."""
        if event.type is EventType.BOOKMARK:
            bookmark = decode_bookmark(event.object)
            if not bookmark.ends_initial_events or not bookmark.resource_version:
                # A server that knows neither the parameters nor that it does not know them.
                return self._do_not_stream()
            if self._holds and self.versions.unnamed() == len(self.versions):
                return self._list_in_pages()
            self._end_list(bookmark.resource_version)
            self._heard = True
            self._failures = 0
        elif event.type is EventType.DELETED:
            key = _key(decode_identity(event.object))
            self.versions.remove(key)
            self._sink.remove(self.resource, key)
        else:
            self._list_object(event.object)
        return None

    def _list_in_pages(self) -> Pause:
        """A stream that names nothing would end all that is known: that is to be said twice.

        A page says of what it is a list, and where it ends; such a stream says nothing of either.
        """
        self._streaming = False
        self._forget_list()
        return GO_ON

    def _do_not_stream(self) -> Pause:
        self._stream = self._streaming = False
        self._forget_list()
        return GO_ON

    def _on_event(self, event: WatchEvent) -> None:
        """Raises ObjectError when only a list can tell what happened."""
        if event.type is EventType.BOOKMARK:
            self._advance(decode_bookmark(event.object).resource_version)
        elif event.type is EventType.DELETED:
            # The object is its last state: whatever is wrong with the rest of it is over.
            meta = decode_identity(event.object)
            self.versions.remove(_key(meta))
            self._sink.remove(self.resource, _key(meta))
            self._advance(meta.resource_version)
        else:
            self._on_changed(event.object)

    def _on_changed(self, raw: msgspec.Raw) -> None:
        try:
            obj = decode_object(self.resource, raw)
        except ObjectError as error:
            # What a fresh list would give: an object that cannot be read owns no names.
            self._on_bad_object(str(error))
            meta = decode_identity(raw)
            self.versions.put(_key(meta), meta.resource_version)
            self._sink.remove(self.resource, _key(meta))
            self._advance(meta.resource_version)
            return
        self.versions.put(_key(obj.metadata), obj.metadata.resource_version)
        self._sink.apply(self.resource, obj)
        self._advance(obj.metadata.resource_version)

    def _advance(self, version: str) -> None:
        self._version = version or self._version

    def _on_error(self, status: Status) -> Pause:
        said = _said(status)
        if status.code != 410:
            self._restarts += 1  # 410 is part of life; of anything else the server may be ill
        return self._restart(f"the watch ended with {status.code}: {said}")

    def _on_unauthorized(self, said: str) -> Pause:
        if self._refreshed:
            return self._fail(f"HTTP 401 with fresh credentials: {said}")._replace(refresh=True)
        self._refreshed = True
        return Pause(refresh=True)

    def _on_forbidden(self, said: str) -> Pause:
        # List and watch are refused in words of their own, and we may try them in turn: as long
        # as it is forbidden, it is one and the same trouble.
        before = self.failure if ": forbidden: " in self.failure else ""
        pause = self._fail(f"forbidden: {said}; {self._missing_rule()}")
        self.failure = before or self.failure
        return pause

    def _restart(self, reason: str) -> Pause:
        """List from the beginning: at once, but with back-off when the last time did not help."""
        verb = self._verb
        if not self._version:
            self._streaming = self._stream and not self._streaming
        self.relist()
        self._restarts += 1
        if self._restarts == 1:
            return GO_ON
        self.failure = f"{verb} {self.resource.value}: {reason}"
        return Pause(full_jitter(self._restarts - 1, self._rng))

    def _fail(self, reason: str, *, insist: bool = False) -> Pause:
        self._failures += 1
        self.failure = f"{self._verb} {self.resource.value}: {reason}"
        if not self._version and not self._continue:
            self._forget_list()
            if not insist:
                self._streaming = self._stream and not self._streaming
        return Pause(full_jitter(self._failures, self._rng))

    def _succeed(self) -> None:
        self.failure = ""
        self._refreshed = False

    @property
    def _verb(self) -> str:
        return "watch" if self._version else "list"

    def _missing_rule(self) -> str:
        return (
            f'its ClusterRole needs apiGroups: ["{self.resource.group}"], '
            f'resources: ["{self.resource.value}"], verbs: ["list", "watch"]'
        )


def _key(meta: Meta | Identity) -> Key:
    return meta.namespace, meta.name


def _said(status: Status) -> str:
    """Its words, in one line that is no longer than people read."""
    text = status.message or status.reason or "no reason given"
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_SAID]).split())
    return f"{line}..." if len(text) > MAX_SAID else line


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that Retry-After asks for, within reason; 0 when it says nothing of use.

    RFC 9110, section 10.2.3: a number of seconds, or a date. Of a date we take the distance from
    the Date of the same answer, so that it does not matter what our clock says.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_CAP)
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
        return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_CAP)
    except (TypeError, ValueError, OverflowError):  # no date; or one of the two without a zone
        return 0.0
