"""`kdns top`: who asks what, as tables on a terminal, from a server's /top."""

import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, InvalidURL
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kdns.admin.top import TITLES

EVERY = 2.0
PATIENCE = 10.0
MAX_ANSWER = 4 << 20
_ADVICE = "expected the address of the directive `top`"


class TopError(Exception):
    """The server cannot be asked, or says something else: one line."""


def address(text: str, number: int) -> str:
    """Where to ask: a URL, or what is missing of it filled in. Raises TopError."""
    url = text if "://" in text else f"http://{text}"
    try:
        path = urlsplit(url).path
    except ValueError as error:
        raise TopError(f"{text}: expected a URL: {error}") from error
    if path in ("", "/"):
        url = f"{url.rstrip('/')}/top"
    return f"{url}?n={number}"


def fetch(url: str) -> dict[str, Any]:
    """What the server says now. Raises TopError."""
    if not url.startswith(("http://", "https://")):
        raise TopError(f"{url}: expected http:// or https://")
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:  # noqa: S310 - see above
            text = reply.read(MAX_ANSWER)
    except HTTPError as error:
        with error:
            raise TopError(f"{url}: {error.code} {error.reason}; {_ADVICE}") from error
    except OSError as error:
        raise TopError(f"{url}: {_reason(error)}; {_ADVICE}") from error
    except (InvalidURL, UnicodeError) as error:
        raise TopError(f"{url}: expected a URL: {error}") from error
    except HTTPException as error:
        raise TopError(f"{url}: what listens there does not speak HTTP; {_ADVICE}") from error
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict) or not told.keys() >= {"seconds", "namespaces", *TITLES}:
        raise TopError(f"{url}: expected what the directive `top` serves")
    return told


def _reason(error: OSError) -> str:
    """What the system says, without the names of what told us."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer in {PATIENCE:g} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return text[:1].lower() + text[1:]


def tables(told: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> Group:
    """A table of each kind that has something in it.

    before: what was said `seconds` ago, for rates.
    """
    made: list[Table] = []
    for kind, title in (*TITLES.items(), ("namespaces", "namespaces")):
        held = told[kind]
        if not held["most"]:
            continue
        caption = f"{title}: {held['total']} queries in {told['seconds']:g} s"
        table = Table(title=caption, title_justify="left", title_style="bold")
        table.add_column("which", style="cyan", overflow="fold")
        table.add_column("queries", justify="right")
        table.add_column("share", justify="right")
        table.add_column("a second", justify="right")
        earlier = {one["key"]: one["count"] for one in before[kind]["most"]} if before else {}
        for one in held["most"]:
            least = f"{one['count'] - one['error']}–" if one["error"] else ""
            rate = ""
            if one["key"] in earlier and seconds > 0:
                rate = f"{max(0, one['count'] - earlier[one['key']]) / seconds:.1f}"
            share = f"{100 * one['count'] / max(1, held['total']):.1f} %"
            # As it is: a name may look like markup.
            table.add_row(Text(str(one["key"])), f"{least}{one['count']}", share, rate)
        made.append(table)
    return Group(*made) if made else Group("nothing was asked yet")


def show(
    url: str,
    *,
    once: bool,
    console: Console | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Show it, again and again on a terminal until Ctrl-C; the exit status. Raises TopError."""
    console = console or Console()
    try:
        told = fetch(url)
        if once or not console.is_terminal:
            console.print(tables(told, None, 0.0))
            return 0
        with Live(tables(told, None, 0.0), console=console, screen=True) as live:
            before, asked = told, time.monotonic()
            while True:
                sleep(EVERY)
                told, now = fetch(url), time.monotonic()
                live.update(tables(told, before, now - asked))
                before, asked = told, now
    except KeyboardInterrupt:
        return 0
