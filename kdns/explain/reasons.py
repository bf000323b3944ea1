"""Why a name of the cluster is answered as it is: what it rests on, and what is missing.

    ….svc    namespace -> service -> its kind -> endpoint or port
    ….pod    namespace -> the `pods` option -> the address
    reverse  a service's address, or an endpoint's

Each step either goes on or says what stops it and what to do; nothing here looks anything up in a
zone, so it can be wrong only about the reason, never about the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.zone import PodsMode, pod_address
from kdns.explain.world import Endpoint, World, near

ENDED = ("Succeeded", "Failed", "Unknown")
"""Phases of pods that own no names any more, though they may still have an address."""
_FAMILIES = {"A": ("IPv4", "."), "AAAA": ("IPv6", ":")}
_LISTED = 5


@dataclass(slots=True)
class Reasons:
    """rests_on: objects, in words. missing: what stops it. next: what to do about that."""

    rests_on: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)

    def stop(self, why: str, *then: str) -> "Reasons":
        """Nothing further: this is missing, and that would help."""
        self.missing.append(why)
        self.next.extend(then)
        return self


def of_forward(world: World, labels: Sequence[str], rtype: str, zone: str) -> Reasons:
    """Of a name below a forward zone, its labels lower-case and without the zone's."""
    reasons = Reasons()
    if not labels:
        reasons.rests_on.append(f"the zone {zone}")
        return reasons
    match labels[-1]:
        case "svc":
            return _of_services(world, labels[:-1], rtype, zone, reasons)
        case "pod":
            return _of_pods(world, labels[:-1], reasons)
        case "dns" | "dns-version":
            if list(labels) in (["dns"], ["ns", "dns"], ["dns-version"]):
                return reasons
            return reasons.stop(
                f"beside ns.dns.{zone} and dns-version.{zone} there is nothing here"
            )
    guess = ""
    if len(labels) >= 2 and (labels[-1], labels[-2]) in world.services:
        guess = f"ask for {labels[-2]}.{labels[-1]}.svc.{zone}"
    close = near(labels[-1], ("svc", "pod"))
    if close and not guess:
        guess = f"ask for {'.'.join([*labels[:-1], close[0], zone])}"
    why = f"nothing below {zone} ends in {labels[-1]!r}: services end in svc, pods in pod"
    return reasons.stop(why, *([guess] if guess else []))


def _namespace(world: World, text: str, reasons: Reasons) -> bool:
    """Whether it is there and shown."""
    if text not in world.namespaces:
        close = near(text, world.namespaces)
        then = [f"did you mean {', or '.join(close)}?"] if close else []
        reasons.stop(f"there is no namespace {text!r}", *then, "kubectl get namespaces")
        return False
    if hidden := world.hidden_namespace(text):
        reasons.stop(
            f"the namespace {text!r} is there, and the Corefile hides it: {hidden}",
            "take the namespace into that line, or its label onto the namespace",
        )
        return False
    reasons.rests_on.append(f"namespace {text}")
    return True


def _of_services(
    world: World, labels: Sequence[str], rtype: str, zone: str, reasons: Reasons
) -> Reasons:
    if not labels or not _namespace(world, labels[-1], reasons):
        return reasons
    if len(labels) == 1:
        return reasons.stop("this is a namespace's name: it exists, and has no records")
    namespace, text = labels[-1], labels[-2]
    service = world.services.get((namespace, text))
    if service is None:
        return _no_service(world, namespace, text, zone, reasons)
    if hidden := world.hidden(service):
        why = f"the service {namespace}/{text} is there, and the Corefile hides it: {hidden}"
        return reasons.stop(why, f"kubectl -n {namespace} label service {text} …")
    reasons.rests_on.append(f"service {namespace}/{text}: {_kind(service)}")
    below = labels[:-2]
    if service.spec.type == "ExternalName":
        return _alias(service, below, reasons)
    if _is_empty(world, service, reasons):
        return reasons
    if len(below) == 2:
        return _of_port(world, service, below[0], below[1], reasons)
    if len(below) == 1:
        return _of_endpoint(world, service, below[0], reasons)
    if below:
        return reasons.stop(
            "too many labels below a service: expected an endpoint, or _port._protocol"
        )
    return _own_records(world, service, rtype, reasons)


def _kind(service: objects.Service) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return f"ExternalName, an alias of {spec.external_name}"
    if "None" in (spec.cluster_ips or [spec.cluster_ip or ""]):
        return "headless, answered by its ready endpoints"
    listed = ", ".join(_cluster_ips(service)) or "no address"
    return f"{spec.type or 'ClusterIP'} {listed}"


def _cluster_ips(service: objects.Service) -> list[str]:
    spec = service.spec
    return [ip for ip in spec.cluster_ips or [spec.cluster_ip or ""] if ip not in ("", "None")]


def _no_service(world: World, namespace: str, text: str, zone: str, reasons: Reasons) -> Reasons:
    here = [name for space, name in world.services if space == namespace]
    elsewhere = sorted(space for space, name in world.services if name == text)
    then = []
    if close := near(text, here):
        then.append(f"did you mean {', or '.join(f'{one}.{namespace}' for one in close)}?")
    then += [
        f"there is one in the namespace {space}: {text}.{space}.svc.{zone}"
        for space in elsewhere[:_LISTED]
    ]
    why = f"the namespace {namespace!r} has no service {text!r}"
    return reasons.stop(why, *then, f"kubectl -n {namespace} get services")


def _alias(service: objects.Service, below: Sequence[str], reasons: Reasons) -> Reasons:
    if below:
        return reasons.stop("nothing is below a service of type ExternalName")
    target = service.spec.external_name or ""
    try:
        model.address(target.removesuffix("."), "")
    except ObjectError:
        return reasons
    return reasons.stop(
        f"externalName is the address {target}, and an alias must lead to a name",
        "make it a headless service with an EndpointSlice of that address",
    )


def _is_empty(world: World, service: objects.Service, reasons: Reasons) -> bool:
    """Whether the service has no names because nothing behind it is ready."""
    headless = not _cluster_ips(service)
    if not headless and not world.settings.ignore_empty_service:
        return False
    namespace, text = service.metadata.namespace, service.metadata.name
    endpoints = world.endpoints(namespace, text)
    if any(endpoint.ready for endpoint in endpoints):
        return False
    what = "a headless service" if headless else "under `ignore empty_service` a service"
    if endpoints:
        listed = ", ".join(endpoint.text for endpoint in endpoints[:_LISTED])
        reasons.stop(
            f"{what} is its ready endpoints, and none is ready: {listed}",
            f"kubectl -n {namespace} get pods; see why their readiness probes fail",
            "publishNotReadyAddresses: true shows them before they are ready",
        )
        return True
    reasons.missing.append(f"{what} is its ready endpoints, and it has none at all")
    _why_no_endpoints(world, service, reasons)
    return True


def _why_no_endpoints(world: World, service: objects.Service, reasons: Reasons) -> None:
    namespace, text = service.metadata.namespace, service.metadata.name
    if world.settings.no_endpoints:
        reasons.stop("the Corefile says noendpoints", "take noendpoints out")
        return
    selector = service.spec.selector
    if not selector:
        reasons.stop(
            "it has no selector, so nobody makes EndpointSlices for it",
            f"kubectl -n {namespace} get endpointslices -l {model.SERVICE_NAME_LABEL}={text}",
        )
        return
    wanted = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    if not world.pods:
        reasons.next.append(f"kubectl -n {namespace} get pods -l {wanted}")
    elif not world.selected(service):
        reasons.stop(
            f"its selector {wanted} matches no pod of the namespace",
            f"kubectl -n {namespace} get pods --show-labels",
        )
    else:
        found = ", ".join(pod.metadata.name for pod in world.selected(service)[:_LISTED])
        reasons.stop(
            f"its selector matches {found}, and there is no EndpointSlice",
            "see whether kube-controller-manager runs",
        )


def _of_port(
    world: World, service: objects.Service, port: str, protocol: str, reasons: Reasons
) -> Reasons:
    known = _ports(world, service, ready=False)
    names = {f"_{text}._{proto.lower()}" for text, proto in known if text}
    asked = f"{port}.{protocol}"
    if asked in names:
        served = _ports(world, service, ready=True)
        if (port[1:], protocol[1:].upper()) not in {(t.lower(), p.upper()) for t, p in served}:
            return reasons.stop(f"no ready endpoint has the port {asked}")
        reasons.rests_on.append(f"port {port[1:]}, {protocol[1:].upper()}")
        return reasons
    then = []
    if close := near(asked, names):
        then.append(f"did you mean {', or '.join(close)}?")
    if not asked.startswith("_") or not protocol.startswith("_"):
        then.append("ports and protocols are written with underscores: _http._tcp (RFC 2782)")
    if any(not text for text, _ in known):
        then.append("a port without a name has no SRV name: give it one in spec.ports")
    has = ", ".join(sorted(names)) or "none with a name"
    return reasons.stop(f"no port {asked}: it has {has}", *then)


def _ports(world: World, service: objects.Service, *, ready: bool) -> list[tuple[str, str]]:
    """(name, protocol) of its ports; of a headless one, those of its slices.

    ready: only of slices with a ready endpoint.
    """
    if _cluster_ips(service):
        return [(p.name or "", p.protocol or "TCP") for p in service.spec.ports or ()]
    return [
        (port.name or "", port.protocol or "TCP")
        for held in world.slices(service.metadata.namespace, service.metadata.name)
        if not ready or world.has_ready(held)
        for port in held.ports or ()
        if port.port is not None
    ]


def _of_endpoint(world: World, service: objects.Service, label: str, reasons: Reasons) -> Reasons:
    endpoints = world.endpoints(service.metadata.namespace, service.metadata.name)
    found = [endpoint for endpoint in endpoints if endpoint.label.lower() == label]
    if any(endpoint.ready for endpoint in found):
        reasons.rests_on += [f"endpoint {one.text}" for one in found if one.ready]
        return reasons
    if found:
        listed = ", ".join(one.text for one in found)
        return reasons.stop(f"the endpoint is there, and is not ready: {listed}")
    return reasons.stop(f"no endpoint is called {label!r}", *_other_names(endpoints, label))


def _other_names(endpoints: Sequence[Endpoint], label: str) -> list[str]:
    labels = [endpoint.label for endpoint in endpoints if endpoint.ready]
    if any(endpoint.pod == label for endpoint in endpoints):
        return [
            "that is a pod's name: give the pod `hostname` and `subdomain`, as a StatefulSet does",
            "or say endpoint_pod_names in the Corefile",
        ]
    close = near(label, labels) or labels[:_LISTED]
    return [f"it has {', '.join(close)}"] if close else []


def _own_records(world: World, service: objects.Service, rtype: str, reasons: Reasons) -> Reasons:
    namespace, text = service.metadata.namespace, service.metadata.name
    addresses = _cluster_ips(service)
    if not addresses:
        ready = [one for one in world.endpoints(namespace, text) if one.ready]
        addresses = [one.address for one in ready]
        reasons.rests_on += [f"endpoint {one.text}" for one in ready[:_LISTED]]
        if len(ready) > _LISTED:
            reasons.rests_on.append(f"and {len(ready) - _LISTED} more endpoints")
    family, mark = _FAMILIES.get(rtype, ("", ""))
    if family and not any(mark in address for address in addresses):
        reasons.stop(
            f"it has no {family} address, only {', '.join(addresses[:_LISTED]) or 'none'}",
            "that is right for a service of one family: programs ask for both and take either",
        )
    if rtype == "SRV" and not _ports(world, service, ready=True):
        reasons.stop("it has no ports, so there is no SRV")
    return reasons


def _of_pods(world: World, labels: Sequence[str], reasons: Reasons) -> Reasons:
    mode = world.settings.pods
    if mode is PodsMode.DISABLED:
        return reasons.stop(
            "pods are disabled, so no pod has a name", "say pods insecure, or verified"
        )
    if not labels or not _namespace(world, labels[-1], reasons):
        return reasons
    if len(labels) != 2:
        return reasons.stop("a pod's name is its address with dashes: 10-1-0-7.namespace.pod")
    packed = pod_address(labels[0].encode())
    if packed is None:
        return reasons.stop(f"{labels[0]!r} is no address with dashes, such as 10-1-0-7")
    if mode is PodsMode.INSECURE:
        reasons.rests_on.append("pods insecure: any address of an existing namespace has a name")
        return reasons
    for (namespace, text), pod in world.pods.items():
        if namespace == labels[-1] and packed in _addresses(pod):
            if pod.status.phase in ENDED:
                reasons.missing.append(f"the pod {namespace}/{text} has ended: {pod.status.phase}")
                continue
            reasons.rests_on.append(f"pod {namespace}/{text}")
            return reasons
    if reasons.missing:
        return reasons
    why = f"pods are verified, and no pod of the namespace {labels[-1]!r} has that address"
    return reasons.stop(why, f"kubectl -n {labels[-1]} get pods -o wide")


def _addresses(pod: objects.Pod) -> list[bytes]:
    try:
        return list(model.from_pod(pod).addresses)
    except ObjectError:
        return []


def of_reverse(world: World, address: str) -> Reasons:
    """Of the reverse name of an address; as in CoreDNS, its namespace need not exist."""
    reasons = Reasons()
    for (namespace, text), service in world.services.items():
        if address in _cluster_ips(service) and not world.hidden(service):
            if hidden := world.unlisted(namespace):
                return reasons.stop(f"the Corefile hides service {namespace}/{text}: {hidden}")
            reasons.rests_on.append(f"service {namespace}/{text}: {_kind(service)}")
            return reasons
    owners = list(world.owners_of(address))
    for namespace, text, endpoint in owners:
        if endpoint.ready and text and not world.unlisted(namespace):
            reasons.rests_on.append(f"service {namespace}/{text}, endpoint {endpoint.text}")
    if reasons.rests_on:
        return reasons
    if owners:
        namespace, text, endpoint = owners[0]
        where = f"{namespace}/{text}" if text else f"no service, in namespace {namespace}"
        why = world.unlisted(namespace) or ("ready, and unowned" if endpoint.ready else "not ready")
        return reasons.stop(f"{address} is an endpoint's address, of {where}: {why}")
    return reasons.stop(f"no service and no endpoint has the address {address}")
