"""What kubernetes tells of a query under metadata: what is asked for, and which pod asks.

port-name . protocol . service . namespace . kind . zone
endpoint             . service . namespace . kind . zone
"""

from collections.abc import Callable

from kdns.wire import name

PARTS = ("service", "namespace", "kind")
KINDS = ("svc", "pod")
PARSE_ERROR = "invalid query name"
"""CoreDNS's words."""


def asked_for(key: bytes, apex: bytes) -> dict[str, str]:
    """By label, what a name (absolute, lower-case, at or below `apex`) asks for."""
    labels = [_text(label) for label in name.split(key[: len(key) - len(apex)] + name.ROOT)]
    said = labels[-len(PARTS) :]
    rest = labels[: -len(PARTS)]
    if (said and said[-1] not in KINDS) or len(rest) > 2:
        return {"kubernetes/parse-error": PARSE_ERROR}
    found = dict(zip(PARTS[-len(said) :] if said else (), said, strict=True))
    if len(rest) == 1:
        found["endpoint"] = rest[0]
    elif rest:
        found["port-name"], found["protocol"] = (label.removeprefix("_") for label in rest)
    return {f"kubernetes/{part}": text for part, text in found.items()}


def client(address: bytes, pods_at: Callable[[bytes], tuple[str, ...]]) -> dict[str, str]:
    """By label, the pod that has an address, and its namespace; as far as they are the only ones.

    pods_at: "namespace/name" of all that have it: those in the host's network share their node's.
    """
    pods = pods_at(address)
    namespaces = {pod.partition("/")[0] for pod in pods}
    found: dict[str, str] = {}
    if len(namespaces) == 1:
        found["kubernetes/client-namespace"] = namespaces.pop()
    if len(pods) == 1:
        found["kubernetes/client-pod-name"] = pods[0].partition("/")[2]
    return found


def _text(label: bytes) -> str:
    return name.to_text(bytes((len(label),)) + label + name.ROOT)[:-1]
