"""What /top says of who asks what: JSON for programs, and a page for browsers."""

import json
from html import escape

from kdns.plugins.parts import HttpReply, HttpRequest
from kdns.telemetry.sketch import Sketch
from kdns.telemetry.top import SIZE, Window
from kdns.wire import name

DEFAULT_NUMBER = 20
TITLES = {
    "names": "names",
    "denied": "names that do not exist",
    "wasted": "names that want a dot at their end",
    "clients": "clients",
}


def top_page(window: Window, now: float, request: HttpRequest) -> HttpReply:
    """n: how many of each are told (20). now: seconds of the windows' clock."""
    text = request.query.get("n", str(DEFAULT_NUMBER))
    if not text.isdecimal() or not 1 <= int(text) <= SIZE:
        return HttpReply(400, f"n: expected a number from 1 to {SIZE}\n".encode())
    told = as_json(window, now, int(text))
    if "text/html" in request.accept:
        return HttpReply(200, _html(told).encode(), "text/html; charset=utf-8")
    return HttpReply(200, json.dumps(told).encode(), "application/json")


def as_json(window: Window, now: float, number: int) -> dict[str, object]:
    """Seconds that the counts are of; of each kind, all queries and the keys counted most."""
    told: dict[str, object] = {"seconds": round(max(0.0, now - window.began), 1)}
    for kind, sketch in window.sketches.items():
        told[kind] = {"total": sketch.total, "most": _most(kind, sketch, number)}
    namespaces = sorted(window.namespaces.items(), key=lambda held: (-held[1], held[0]))
    most = [{"key": key, "count": count, "error": 0} for key, count in namespaces[:number]]
    told["namespaces"] = {"total": sum(window.namespaces.values()), "most": most}
    return told


def _most(kind: str, sketch: Sketch, number: int) -> list[dict[str, object]]:
    read = name.address_text if kind == "clients" else name.to_text
    return [
        {"key": read(key), "count": count, "error": error}
        for key, count, error in sketch.most(number)
    ]


def _html(told: dict[str, object]) -> str:
    tables: list[str] = []
    for kind, title in (*TITLES.items(), ("namespaces", "namespaces")):
        held = told[kind]
        assert isinstance(held, dict)
        rows = "".join(
            f"<tr><td>{escape(str(one['key']))}<td>{one['count']}<td>{one['error'] or ''}"
            for one in held["most"]
        )
        head = f"<caption>{title}: {held['total']} queries</caption>"
        tables.append(f"<table>{head}<tr><th>which<th>queries<th>maybe too many by{rows}</table>")
    style = "body{font:1em sans-serif}td+td,th+th{text-align:right}table{margin:1em 0}"
    return (
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5>"
        f"<title>who asks what</title><style>{style}</style>"
        f"<h1>Who asks what, in the last {told['seconds']} s</h1>{''.join(tables)}"
    )
