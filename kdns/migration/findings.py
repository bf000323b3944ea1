"""What would change, block by block and object by object, and what stands in the way.

keeps      as it is
changes    what to change, or what becomes better
look       works, and somebody should look
stops      must be mended first
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kdns.corefile.errors import CorefileError
from kdns.migration.survey import Survey
from kdns.plan import Plan, PlannedBlock, make_plan
from kdns.plugins.health import Health
from kdns.plugins.kubernetes import Kubernetes
from kdns.plugins.prometheus import Prometheus
from kdns.plugins.ready import Ready

Weight = Literal["keeps", "changes", "look", "stops"]
WEIGHTS: tuple[Weight, ...] = ("keeps", "changes", "look", "stops")
FLAGS = frozenset(("conf", "dns.port", "p", "port", "pidfile", "quiet", "version", "lenient"))
"""Arguments of CoreDNS that kdns has under the same names, and its own."""
_WITH_VALUE = frozenset(("conf", "dns.port", "p", "port", "pidfile"))
_MANAGED = {
    "EKS": "the EKS add-on puts its own Deployment back: remove the add-on, keep its objects",
    "AKS": "AKS puts its own Deployment back: run kdns beside it, behind its own Service",
    "GKE": "GKE puts kube-dns back: scale its autoscaler and it to 0, or run kdns beside it",
    "k3s": "k3s puts coredns.yaml back: start the server with --disable coredns",
    "RKE2": "RKE2 puts its chart back: disable rke2-coredns in config.yaml",
}


@dataclass(slots=True, frozen=True)
class Finding:
    """part: of what it is said. there: what the cluster has. then: what kdns makes of it."""

    part: str
    weight: Weight
    there: str
    then: str


@dataclass(slots=True, frozen=True)
class Report:
    """Everything found; plan is None when the Corefile cannot be served even leniently."""

    flavour: str
    findings: list[Finding]
    plan: Plan | None

    @property
    def stops(self) -> bool:
        """Whether something must be mended first."""
        return any(finding.weight == "stops" for finding in self.findings)


def report(survey: Survey, environ: dict[str, str]) -> Report:
    """What would change. environ: for `{$VAR}` in the Corefile."""
    plan, corefile = _corefile(survey, environ)
    found = [
        *_distribution(survey),
        *corefile,
        *_container(survey, plan),
        *_service(survey),
        *_rights(survey, plan),
        *(Finding("reading", "look", text, "not looked at") for text in survey.unread),
    ]
    return Report(survey.flavour, found, plan)


def _distribution(survey: Survey) -> Iterator[Finding]:
    if survey.deployment is None:
        where = f"no Deployment k8s-app=kube-dns in {survey.namespace}"
        yield Finding("cluster", "look", where, "name another with --namespace")
        return
    flavour = survey.flavour
    then = _MANAGED.get(flavour)
    if then is None:
        yield Finding("cluster", "keeps", flavour, "nobody puts CoreDNS back: replace it in place")
    else:
        yield Finding("cluster", "look", flavour, then)
    if survey.node_local is not None:
        name = survey.node_local["metadata"]["name"]
        yield Finding(
            "cluster", "look", f"DaemonSet {name}: a cache on every node",
            "it goes on in front of kdns; or mode nodelocal takes its place too",
        )  # fmt: skip


def _corefile(survey: Survey, environ: dict[str, str]) -> tuple[Plan | None, list[Finding]]:
    place = survey.corefile()
    if place is None:
        if stubs := survey.files_of("kube-dns"):
            text = ", ".join(sorted(stubs))
            then = "write a Corefile: a block with `forward` for each stub domain"
            return None, [Finding("Corefile", "stops", f"ConfigMap kube-dns: {text}", then)]
        return None, [Finding("Corefile", "stops", "no ConfigMap with a Corefile", "write one")]
    path, text = place
    try:
        plan = make_plan(text, path, environ=environ, lenient=True, read=survey.read)
    except CorefileError as error:
        return None, [Finding("Corefile", "stops", str(error), "kdns cannot read this")]
    found = [finding for block in plan.blocks for finding in _block(block)]
    for warning in plan.warnings:
        left_out = warning.endswith(": left out")
        weight: Weight = "stops" if left_out else "look"
        then = (
            "take it out, or serve with --lenient" if left_out else "read, and otherwise than there"
        )
        found.append(Finding("Corefile", weight, warning.removesuffix(": left out"), then))
    return plan, found


def _block(block: PlannedBlock) -> Iterator[Finding]:
    zones = f"block {' '.join(block.zones)}:{block.port}"
    for known in block.directives:
        yield Finding(zones, "keeps", known.plugin.name, known.settings.explain())


def _container(survey: Survey, plan: Plan | None) -> Iterator[Finding]:
    if survey.deployment is None:
        return
    container = survey.container
    yield Finding("image", "changes", str(container.get("image") or "none"), "the image of kdns")
    yield from _arguments(survey.arguments())
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    yield Finding(
        "memory", "keeps" if limit else "look", f"limit {limit or 'none'}",
        "enough or not by the size of the cluster: docs/sizing.md",
    )  # fmt: skip
    for probe, kind, path in (
        ("livenessProbe", Health, "/health"), ("readinessProbe", Ready, "/ready")
    ):  # fmt: skip
        yield from _probe(container, probe, kind, path, plan)
    yield from _ports(container, plan)
    added = ((container.get("securityContext") or {}).get("capabilities") or {}).get("add") or []
    if "NET_BIND_SERVICE" in added:
        yield Finding("security", "keeps", "NET_BIND_SERVICE, nothing else", "kdns needs it too")
    else:
        yield Finding(
            "security", "look", f"capabilities {' '.join(added) or 'none'}",
            "port 53 needs NET_BIND_SERVICE, or net.ipv4.ip_unprivileged_port_start=0",
        )  # fmt: skip


def _arguments(args: list[str]) -> Iterator[Finding]:
    unknown = []
    skip = False
    for arg in args:
        if skip:
            skip = False
            continue
        flag, equals, _ = arg.lstrip("-").partition("=")
        skip = flag in _WITH_VALUE and not equals
        if arg.startswith("-") and flag not in FLAGS:
            unknown.append(arg)
    written = " ".join(args) or "none"
    if unknown:
        then = f"kdns has no {' '.join(unknown)}: take it out"
        yield Finding("arguments", "stops", written, then)
    else:
        yield Finding("arguments", "keeps", written, "kdns takes them as they are")


def _probe(
    container: dict[str, Any] | Any, probe: str, kind: type, path: str, plan: Plan | None
) -> Iterator[Finding]:
    asked = (container.get(probe) or {}).get("httpGet")
    if not asked:
        yield Finding("probes", "look", f"no {probe}", f"add one: {path}")
        return
    number = _port_number(container, asked.get("port"))
    there = f"{probe} {asked.get('path')} on {number}"
    served = {_port_of(s.address) for s in _settings(plan, kind)}
    if plan is None:
        return
    if asked.get("path") != path or number not in served:
        has = ", ".join(map(str, sorted(served))) or "no port"
        then = f"the Corefile serves {path} on {has}: make them agree"
        yield Finding("probes", "stops", there, then)
    else:
        yield Finding("probes", "keeps", there, f"served by `{path[1:]}`")


def _ports(container: Any, plan: Plan | None) -> Iterator[Finding]:
    if plan is None:
        return
    there = {int(port.get("containerPort") or 0) for port in container.get("ports") or []}
    for number in sorted({block.port for block in plan.blocks} - there):
        then = f"name containerPort {number}, for people: it is served without"
        yield Finding("ports", "look", f"no containerPort {number}", then)
    for settings in _settings(plan, Prometheus):
        number = _port_of(settings.address)
        if number in there:
            then = "metrics under CoreDNS's names, and kdns's own"
            yield Finding("ports", "keeps", f"metrics on {number}", then)


def _settings(plan: Plan | None, kind: type) -> list[Any]:
    blocks = plan.blocks if plan else []
    found = [known.settings for block in blocks for known in block.directives]
    return [settings for settings in found if isinstance(settings, kind)]


def _port_of(address: str) -> int:
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def _port_number(container: Any, port: Any) -> int:
    """The number of a probe's port, which may be named."""
    for known in container.get("ports") or []:
        if known.get("name") == port:
            return int(known.get("containerPort") or 0)
    return int(port) if str(port).isdecimal() else 0


def _service(survey: Survey) -> Iterator[Finding]:
    service = survey.service
    if service is None:
        where = f"no Service kube-dns in {survey.namespace}"
        yield Finding("service", "look", where, "name another with --namespace")
        return
    spec = service.get("spec") or {}
    name = service["metadata"]["name"]
    ips = ", ".join(spec.get("clusterIPs") or [spec.get("clusterIP") or "none"])
    yield Finding("service", "keeps", f"{name} {ips}", "pods' resolv.conf names it: keep it")
    labels: dict[str, str] = {}
    if survey.deployment is not None:
        template = survey.deployment.get("spec", {}).get("template", {})
        labels = template.get("metadata", {}).get("labels") or {}
    selector = spec.get("selector") or {}
    written = ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or "none"
    if survey.deployment is not None and not selector.items() <= labels.items():
        yield Finding("service", "look", f"selector {written}", "it selects no pod of CoreDNS")
    else:
        then = "give the pods of kdns these labels (mode replace does)"
        yield Finding("service", "changes", f"selector {written}", then)


def _rights(survey: Survey, plan: Plan | None) -> Iterator[Finding]:
    needed = sorted(
        {
            (resource.group, resource.value)
            for settings in _settings(plan, Kubernetes)
            for resource in settings.source().resources
        }
    )
    if survey.deployment is None or not needed:
        return
    if survey.roles is None:
        text = f"ClusterRoles of {survey.account} could not be read"
        names = ", ".join(resource for _, resource in needed)
        yield Finding("rights", "look", text, f"kdns lists and watches {names}")
        return
    missing = [
        (group, resource)
        for group, resource in needed
        if not all(_may(survey, group, resource, verb) for verb in ("list", "watch"))
    ]
    account = f"service account {survey.account}"
    for group, resource in missing:
        rule = f'apiGroups: ["{group}"], resources: [{resource}], verbs: [list, watch]'
        yield Finding("rights", "stops", f"{account} may not list and watch {resource}", rule)
    if not missing:
        names = ", ".join(resource for _, resource in needed)
        yield Finding("rights", "keeps", f"{account} may list and watch {names}", "all it needs")
    extra = _extra(survey, set(needed))
    if extra:
        then = "kdns does not ask for it: deploy/ leaves it out"
        yield Finding("rights", "changes", f"{account} may read {', '.join(extra)}", then)


def _may(survey: Survey, group: str, resource: str, verb: str) -> bool:
    return any(
        {group, "*"} & set(rule.get("apiGroups") or [])
        and {resource, "*"} & set(rule.get("resources") or [])
        and {verb, "*"} & set(rule.get("verbs") or [])
        for role in survey.roles or []
        for rule in role.get("rules") or []
    )


def _extra(survey: Survey, needed: set[tuple[str, str]]) -> list[str]:
    names = {name for _, name in needed}
    return sorted(
        {
            resource
            for role in survey.roles or []
            for rule in role.get("rules") or []
            for resource in rule.get("resources") or []
            if resource not in names
        }
    )
