"""Judges a reply against what CoreDNS answered, and against the standard where CoreDNS did not.

`same` is what CoreDNS said, but for what is not compared; a Rule is a text of a standard, the rows
in which CoreDNS contradicts it, and what it asks for instead.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from tests.conformance.asking import Json

ZONES = ("cluster.local.", "k8s.example.org.")
CHAOS = ("hostname.bind.", "id.server.", "version.bind.", "version.server.", "authors.bind.")
SOA = re.compile(r"(SOA \S+ \S+) \d+ ")
SRV = re.compile(r"(SRV \d+) \d+ ")
Verdict = Literal["same", "better", "kept", "different"]


def canonical(records: list[str]) -> set[str]:
    """Records without letter case, SOA serial and SRV weight."""
    found = set()
    for record in records:
        text = record.lower().replace(" srv ", " SRV ").replace(" soa ", " SOA ")
        found.add(SRV.sub(r"\1 W ", SOA.sub(r"\1 N ", text)))
    return found


def below_zone(name: str) -> list[str] | None:
    """The labels below the cluster's zone, lower-case; None for names outside."""
    text = name.lower() if name.endswith(".") else name.lower() + "."
    for zone in ZONES:
        if text == zone:
            return []
        if text.endswith("." + zone):
            return text[: -len(zone) - 1].split(".")
    return None


def above(names: set[str]) -> set[str]:
    """All names above these."""
    return {name[k + 1 :] for name in names for k, char in enumerate(name) if char == "."}


class Scene:
    """What exists in the cluster, and what this Corefile shows of it (learnt from the rows)."""

    def __init__(self, items: list[Json], rows: list[Json]) -> None:
        by_kind: dict[str, list[Json]] = {}
        for item in items:
            by_kind.setdefault(item["kind"], []).append(item)
        self.services = {
            (i["metadata"]["namespace"], i["metadata"]["name"]): i["spec"]
            for i in by_kind["Service"]
        }
        self.pods = {
            (i["metadata"]["namespace"], ip_address(address["ip"]))
            for i in by_kind["Pod"]
            if i["status"].get("phase") not in ("Succeeded", "Failed")
            for address in i["status"].get("podIPs", [])
        }
        addresses = {
            a for spec in self.services.values() for a in spec.get("clusterIPs", []) if a != "None"
        }
        addresses |= {
            address
            for i in by_kind["EndpointSlice"]
            for endpoint in i.get("endpoints") or []
            if endpoint.get("conditions", {}).get("ready") is not False
            for address in endpoint["addresses"]
        }
        self.reverse = {ip_address(a).reverse_pointer + "." for a in addresses}
        self.shown: set[str] = set()
        self.soa: set[str] = set()
        self.verified_pods = False
        for row in rows:
            self._learn(row["q"], row["r"])
        self.shown_above = above(self.shown)
        self.owners_of_ptr = self.reverse & self.shown

    def _learn(self, q: Json, r: Json) -> None:
        if "opcode" in q or "error" in r or q.get("class", "IN") != "IN":
            return
        # Addresses alone show that pods have names: `any` answers HINFO at every name there is.
        pod = (below_zone(q["name"]) or [""])[-1] == "pod"
        self.verified_pods |= pod and q["type"] in ("A", "AAAA") and bool(r["answer"])
        if "AA" not in r["flags"]:
            return
        if r["rcode"] in ("NOERROR", "NXDOMAIN"):
            self.soa |= {a for a in canonical(r["authority"]) if " SOA " in a}
        if r["rcode"] == "NOERROR" and q["type"] != "SOA":
            self.shown.add(q["name"].lower())
        self.shown |= {a.split()[0].lower() for a in r["answer"] if " SRV " in a or " PTR " in a}

    def exists(self, name: str) -> bool:
        """Whether CoreDNS showed this name, or one below it."""
        return name in self.shown or name in self.shown_above


@dataclass(slots=True)
class Row:
    """One recorded query, taken apart."""

    q: Json
    want: Json
    scene: Scene

    @property
    def name(self) -> str:
        name: str = self.q["name"].lower()
        return name if name.endswith(".") else name + "."

    @property
    def type(self) -> str:
        return str(self.q["type"])

    @property
    def labels(self) -> list[str] | None:
        return below_zone(self.q["name"])

    @property
    def plain(self) -> bool:
        """A query of class IN that could be read, and was answered."""
        return (
            "opcode" not in self.q
            and "error" not in self.want
            and self.q.get("class", "IN") == "IN"
            and self.want["rcode"] != "BADVERS"
        )

    @property
    def in_cluster(self) -> bool:
        return self.plain and self.labels is not None

    @property
    def in_reverse(self) -> bool:
        return self.plain and self.labels is None

    @property
    def service(self) -> Json | None:
        labels = self.labels
        if not labels or labels[-1] != "svc" or len(labels) < 3:
            return None
        return self.scene.services.get((labels[-2], labels[-3]))

    @property
    def is_external(self) -> bool:
        service = self.service
        return service is not None and service.get("type") == "ExternalName" and self.depth == 3

    @property
    def depth(self) -> int:
        return len(self.labels or ())

    @property
    def is_port(self) -> bool:
        return self.service is not None and self.depth == 5 and not self.is_external

    @property
    def is_pod(self) -> bool:
        return self.in_cluster and self.depth >= 1 and (self.labels or [""])[-1] == "pod"

    @property
    def underscored(self) -> bool:
        return all(x.startswith("_") and len(x) > 1 for x in (self.labels or [])[:2])

    @property
    def limit(self) -> int:
        return 65535 if self.q.get("tcp") else max(512, self.q.get("edns", 512))

    @property
    def pod(self) -> str | None:
        """The address of the pod whose name this is."""
        labels = self.labels
        if not self.is_pod or labels is None or len(labels) != 3:
            return None
        for text in (labels[0].replace("-", "."), labels[0].replace("-", ":")):
            try:
                address = ip_address(text)
            except ValueError:
                continue
            return str(address) if (labels[1], address) in self.scene.pods else None
        return None


def flags(reply: Json) -> set[str]:
    """The flags that are compared: not RA, which is ours to set, nor AD."""
    return set(reply.get("flags", "").split()) & {"AA", "TC", "RD", "CD", "QR"}


def owners(reply: Json) -> set[str]:
    """The owners of the answer's records, lower-case."""
    return {record.split()[0].lower() for record in reply["answer"]}


def same(row: Row, got: Json) -> bool:
    """Whether the reply is CoreDNS's."""
    q, want = row.q, row.want
    if "opcode" in q:
        return want.get("rcode") == got.get("rcode") and got.get("id_ok") is True
    if "error" in want or "error" in got:
        return want.get("error") == got.get("error")
    if q.get("class") == "CH" and row.name in CHAOS:
        return _same_chaos(want, got)
    if want["rcode"] != got["rcode"] or flags(want) != flags(got) or not _same_frame(row, got):
        return False
    if "TC" in flags(want):
        return owners(got) <= {row.name, *owners(want)}
    if row.labels == ["ns", "dns"] and row.type in ("A", "AAAA"):
        return _addresses_only(row, got)
    if any(canonical(want[part]) != canonical(got[part]) for part in ("answer", "authority")):
        return False
    if "case" in q and not _case_kept(row, got):
        return False
    return row.type == "NS" or canonical(want["additional"]) == canonical(got["additional"])


def _same_chaos(want: Json, got: Json) -> bool:
    """Texts are the host's and the upstream's; owner, class and type are compared."""
    if "AA" not in want["flags"]:
        return got["rcode"] in (want["rcode"], "REFUSED")
    kinds = [[[r.split()[0], *r.split()[2:4]] for r in x["answer"]] for x in (want, got)]
    return kinds[0] == kinds[1]


def _same_frame(row: Row, got: Json) -> bool:
    want = row.want
    if got["question"] != want["question"] or got["size"] > row.limit:
        return False
    if (want["edns"] or {}).get("do") != (got["edns"] or {}).get("do"):
        return False
    if (want["edns"] is None) != (got["edns"] is None):
        return False
    return "nsid" not in want or want["nsid"] == got.get("nsid")


def _case_kept(row: Row, got: Json) -> bool:
    asked = got["question"][0]
    texts = [record.split()[0] for record in got["answer"]]
    return all(text == asked for text in texts if text.lower() == row.name)


def _addresses_only(row: Row, got: Json) -> bool:
    return owners(got) <= {row.name} and all(f" {row.type} " in r for r in got["answer"])


def envelope(row: Row, got: Json) -> bool:
    """What no rule excuses: question, RD, CD and OPT as asked, size, AA, and the zone's SOA."""
    want = row.want
    if got["question"] != want["question"] or got["size"] > row.limit or "TC" in flags(got):
        return False
    if (want["edns"] is None) != (got["edns"] is None):
        return False
    asked = {"QR"} | ({"RD"} if row.q.get("rd", True) else set())
    asked |= {"CD"} if row.q.get("cd") else set()
    if flags(got) & {"QR", "RD", "CD"} != asked:
        return False
    if got["rcode"] == "REFUSED":
        return not (got["answer"] or got["authority"] or got["additional"])
    soa = canonical(got["authority"])
    known = all(r in row.scene.soa and row.name.endswith(r.split()[0]) for r in soa)
    return "AA" in flags(got) and len(soa) <= 1 and known


def no_data(_: Row, got: Json) -> bool:
    return got["rcode"] == "NOERROR" and not got["answer"] and len(got["authority"]) == 1


def no_name(_: Row, got: Json) -> bool:
    return got["rcode"] == "NXDOMAIN" and not got["answer"] and len(got["authority"]) == 1


def refused(_: Row, got: Json) -> bool:
    return bool(got["rcode"] == "REFUSED")


def no_name_or_refused(_: Row, got: Json) -> bool:
    return got["rcode"] in ("NXDOMAIN", "REFUSED")


def not_implemented(row: Row, got: Json) -> bool:
    return bool(got["rcode"] == 4 and got["id_ok"] and got["opcode"] == row.want["opcode"])


def hinfo_or_no_data(row: Row, got: Json) -> bool:
    hinfo = len(got["answer"]) == 1 and " hinfo " in got["answer"][0].lower()
    return no_data(row, got) or (got["rcode"] == "NOERROR" and hinfo)


def address_of_pod(row: Row, got: Json) -> bool:
    address = row.pod
    assert address is not None
    if row.type != ("AAAA" if ":" in address else "A"):
        return no_data(row, got)
    (record,) = got["answer"] or [""]
    return bool(record.lower().split()[0::4] == [row.name, address])


def aliased(row: Row, got: Json) -> bool:
    """The CNAME stands in the answer, its chain follows, and the rcode is that of the end."""
    assert row.service is not None
    target = row.service["externalName"].lower().rstrip(".") + "."
    cnames = {r.split()[0].lower(): r.split()[4].lower() for r in got["answer"] if " CNAME " in r}
    if cnames.get(row.name) != target:
        return False
    if got["rcode"] not in ("NOERROR", "NXDOMAIN", "SERVFAIL"):
        return False
    complete = canonical(row.want["answer"]) <= canonical(got["answer"])
    return owners(got) <= {row.name, *cnames.values()} and complete


def answered_in_any_case(row: Row, got: Json) -> bool:
    answers = owners(got) == {row.name} and all(f" {row.type} " in r for r in got["answer"])
    return got["rcode"] == "NOERROR" and (answers or no_data(row, got))


def complete_without_additional(row: Row, got: Json) -> bool:
    whole = canonical(row.want["answer"]) <= canonical(got["answer"])
    return got["rcode"] == "NOERROR" and whole


@dataclass(slots=True, frozen=True)
class Rule:
    """applies: CoreDNS's answer contradicts the text. right: this is what the text asks for.

    required: False where both answers are allowed.
    """

    says: str
    applies: Callable[[Row], object]
    right: Callable[[Row, Json], bool]
    required: bool = True


EXISTING: tuple[list[str], ...] = ([], ["svc"], ["pod"], ["dns"], ["dns-version"], ["ns", "dns"])

RULES = (
    Rule(
        "RFC 1035 4.1.1: opcodes other than QUERY are NOTIMP, opcode and ID returned",
        lambda r: "opcode" in r.q and r.want["rcode"] != 4,
        not_implemented,
    ),
    Rule(
        "RFC 1035 3.2.4: cluster data is of class IN, other classes are REFUSED",
        lambda r: (
            "opcode" not in r.q
            and r.q.get("class", "IN") != "IN"
            and r.name not in CHAOS
            and r.want.get("rcode") not in ("REFUSED", "BADVERS")
        ),
        refused,
    ),
    Rule("every query gets an answer", lambda r: "error" in r.want, no_name_or_refused),
    Rule(
        "RFC 8482: ANY gets HINFO, or no data where the name exists",
        lambda r: r.in_cluster and r.type == "ANY" and r.scene.exists(r.name),
        hinfo_or_no_data,
        required=False,
    ),
    Rule(
        "RFC 8020: a name that owns a PTR exists, and is not passed on",
        lambda r: (
            r.in_reverse
            and r.name in r.scene.owners_of_ptr
            and r.type not in ("PTR", "ANY")
            and not no_data(r, r.want)
        ),
        no_data,
    ),
    Rule(
        "RFC 8020: an empty non-terminal of the reverse tree exists",
        lambda r: (
            r.in_reverse
            and r.name in above(r.scene.owners_of_ptr)
            and r.name not in r.scene.reverse
            and r.name.count(".") > 3
        ),
        no_data,
        required=False,
    ),
    Rule(
        "RFC 2308 2.1: SOA at a name that does not exist is NXDOMAIN",
        lambda r: (
            r.plain
            and r.labels
            and r.type == "SOA"
            and no_data(r, r.want)
            and not r.scene.exists(r.name)
        ),
        no_name,
    ),
    Rule(
        "RFC 4343: letter case does not matter, at the apex and at ns.dns neither",
        lambda r: (
            r.plain
            and "case" in r.q
            and ((r.labels == [] and r.type == "NS") or r.labels == ["ns", "dns"])
        ),
        answered_in_any_case,
        required=False,
    ),
    Rule(
        "RFC 2308 2.2: an existing name without this type has no data",
        lambda r: (
            r.in_cluster
            and r.want["rcode"] == "NXDOMAIN"
            and (
                r.labels in EXISTING
                or (
                    r.depth == 2
                    and (r.labels or [])[1] in ("svc", "pod")
                    and r.scene.exists(r.name)
                )
            )
        ),
        no_data,
    ),
    Rule(
        "RFC 8020: an empty non-terminal above SRV names exists",
        lambda r: (
            r.plain
            and r.service is not None
            and r.depth == 4
            and (r.labels or [""])[0] in ("_tcp", "_udp", "_sctp")
            and r.want["rcode"] == "NXDOMAIN"
            and r.name in r.scene.shown_above
        ),
        no_data,
    ),
    Rule(
        "nothing exists below a pod's name",
        lambda r: r.is_pod and r.depth > 3 and r.want["rcode"] == "NOERROR",
        no_name,
    ),
    Rule(
        "a pod's name owns addresses only",
        lambda r: r.is_pod and r.depth == 3 and r.type not in ("A", "AAAA") and r.want["answer"],
        no_data,
    ),
    Rule(
        "every address of a verified pod answers",
        lambda r: r.plain and r.scene.verified_pods and r.want["rcode"] == "NXDOMAIN" and r.pod,
        address_of_pod,
    ),
    Rule(
        "RFC 1034 3.6.2, RFC 6604: an alias answers with its CNAME for every type",
        lambda r: r.plain and r.is_external and r.scene.exists(r.name) and not r.want["answer"],
        aliased,
    ),
    Rule(
        "RFC 6604: an alias whose target has nothing has the rcode of its end",
        lambda r: r.plain and r.is_external and r.type != "CNAME" and len(r.want["answer"]) == 1,
        aliased,
        required=False,
    ),
    Rule(
        "RFC 2782: a port's name owns SRV only",
        lambda r: (
            r.plain
            and r.is_port
            and r.underscored
            and r.type not in ("SRV", "ANY")
            and r.want["answer"]
        ),
        no_data,
    ),
    Rule(
        "RFC 2782: a port's name is written with underscores",
        lambda r: r.plain and r.is_port and not r.underscored and r.want["answer"],
        no_name,
    ),
    Rule(
        "RFC 2181 9: additional records may be left out without TC",
        lambda r: r.plain and r.type == "SRV" and "TC" in flags(r.want),
        complete_without_additional,
        required=False,
    ),
)


def judge(row: Row, got: Json) -> tuple[Verdict, Rule | None]:
    """The verdict, and the rule that it rests on."""
    rule = next((r for r in RULES if r.applies(row)), None)
    if same(row, got):
        return ("kept", rule) if rule is not None and rule.required else ("same", None)
    if rule is None or "error" in got:
        return "different", rule
    framed = "opcode" in row.q or "error" in row.want or envelope(row, got)
    return ("better" if framed and rule.right(row, got) else "different"), rule
