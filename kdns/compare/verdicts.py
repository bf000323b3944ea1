"""Judges a reply against what CoreDNS answered, and against the standard where CoreDNS did not.

`same` is what CoreDNS said, but for what is not compared; a Rule is a text of a standard, the rows
in which CoreDNS contradicts it, and what it asks for instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kdns.compare.scene import Json, Row, below_zone, canonical

CHAOS = ("hostname.bind.", "id.server.", "version.bind.", "version.server.", "authors.bind.")
Verdict = Literal["same", "better", "kept", "different"]


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
    if passed_on(got):
        return True
    soa = canonical(got["authority"])
    # A zone of which CoreDNS showed no SOA may have one all the same.
    owners_known = {r.split()[0] for r in row.scene.soa}
    known = all(
        (r in row.scene.soa or r.split()[0] not in owners_known) and row.name.endswith(r.split()[0])
        for r in soa
    )
    return "AA" in flags(got) and len(soa) <= 1 and known


def no_data(_: Row, got: Json) -> bool:
    """The name exists, and has nothing of this type (RFC 2308, 2.2)."""
    return got["rcode"] == "NOERROR" and not got["answer"] and len(got["authority"]) == 1


def no_name(_: Row, got: Json) -> bool:
    """The name does not exist (RFC 2308, 2.1)."""
    return got["rcode"] == "NXDOMAIN" and not got["answer"] and len(got["authority"]) == 1


def passed_on(reply: Json) -> bool:
    """A refusal of somebody else: kubernetes let the question fall through."""
    return "AA" not in flags(reply) and not reply["answer"] and reply["rcode"] != "NOERROR"


def no_name_or_passed_on(row: Row, got: Json) -> bool:
    """The name does not exist, by our word or by that of whom we asked."""
    return no_name(row, got) or passed_on(got)


def refused(_: Row, got: Json) -> bool:
    """Nobody here serves it."""
    return bool(got["rcode"] == "REFUSED")


def pointers_or_nothing(row: Row, got: Json) -> bool:
    """PTR records of this name into the cluster's zones; or that there are none."""
    records = [record.lower().split() for record in got["answer"]]
    pointers = all(
        r[0] == row.name and r[3] == "ptr" and below_zone(r[4], row.scene.zones) for r in records
    )
    return pointers and (got["rcode"] in ("NOERROR", "NXDOMAIN") or passed_on(got))


def not_implemented(row: Row, got: Json) -> bool:
    """NOTIMP, with ID and opcode as they came."""
    return bool(got["rcode"] == 4 and got["id_ok"] and got["opcode"] == row.want["opcode"])


def hinfo_or_no_data(row: Row, got: Json) -> bool:
    """What RFC 8482 allows for ANY."""
    hinfo = len(got["answer"]) == 1 and " hinfo " in got["answer"][0].lower()
    return no_data(row, got) or (got["rcode"] == "NOERROR" and hinfo)


def address_of_pod(row: Row, got: Json) -> bool:
    """The address that the pod's name spells."""
    address = row.pod
    assert address is not None
    if row.type != ("AAAA" if ":" in address else "A"):
        return no_data(row, got)
    (record,) = got["answer"] or [""]
    return bool(record.lower().split()[0::4] == [row.name, address])


def aliased(row: Row, got: Json) -> bool:
    """The CNAME stands in the answer, its chain follows, and the rcode is that of the end."""
    cnames = {r.split()[0].lower(): r.split()[4].lower() for r in got["answer"] if " CNAME " in r}
    if cnames.get(row.name) not in row.targets:
        return False
    if got["rcode"] not in ("NOERROR", "NXDOMAIN", "SERVFAIL"):
        return False
    complete = canonical(row.want["answer"]) <= canonical(got["answer"])
    return owners(got) <= {row.name, *cnames.values()} and complete


def answered_in_any_case(row: Row, got: Json) -> bool:
    """Answered, or no data, in whatever letters it was asked."""
    answers = owners(got) == {row.name} and all(f" {row.type} " in r for r in got["answer"])
    return got["rcode"] == "NOERROR" and (answers or no_data(row, got))


def complete_without_additional(row: Row, got: Json) -> bool:
    """The whole answer, whatever else there was room for."""
    whole = canonical(row.want["answer"]) <= canonical(got["answer"])
    return got["rcode"] == "NOERROR" and whole


def addresses_or_alias(row: Row, got: Json) -> bool:
    """Of a name that slices make an alias: its addresses alone; or the alias, and its end's rcode.

    RFC 1034, section 3.6.2: if a CNAME is present at a node, no other data should be.
    """
    heads = row.aliased
    if any(r.split()[0].lower() in heads and " CNAME " in r for r in got["answer"]):
        complete = canonical(row.want["answer"]) <= canonical(got["answer"])
        return complete and got["rcode"] in ("NOERROR", "NXDOMAIN", "SERVFAIL")
    ends = {target for led in heads.values() for target in led}
    kept = [
        record
        for record in row.want["answer"]
        if not (record.split()[0].lower() in heads and " CNAME " in record)
        and record.split()[0].lower() not in ends
    ]
    return got["rcode"] == "NOERROR" and canonical(kept) == canonical(got["answer"])


def named_by_address(row: Row, got: Json) -> bool:
    """The name exists; every record leads to a name of one label below its service."""
    targets = [record.split()[-1] for record in got["answer"] if row.type in ("SRV", "PTR")]
    depths = {len(below_zone(target, row.scene.zones) or ()) for target in targets}
    return (
        got["rcode"] == "NOERROR" and depths <= {3, 4} and bool(targets or not row.leads_too_deep)
    )


def all_addresses_of_targets(row: Row, got: Json) -> bool:
    """The answer is CoreDNS's, and Additional has what it had and more addresses of targets."""
    if canonical(row.want["answer"]) != canonical(got["answer"]):
        return False
    targets = {record.lower().split()[-1] for record in got["answer"] if " SRV " in record}
    more = canonical(got["additional"]) - canonical(row.want["additional"])
    complete = canonical(row.want["additional"]) <= canonical(got["additional"])
    return complete and all(record.split()[0] in targets for record in more)


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
    Rule(
        "every query gets an answer, whatever slices have its address",
        lambda r: "error" in r.want and r.name in r.scene.unowned,
        pointers_or_nothing,
    ),
    Rule(
        "RFC 8482: ANY gets HINFO, or no data where the name exists",
        lambda r: (
            r.in_cluster
            and r.type == "ANY"
            and r.scene.exists(r.name)
            and not (r.is_pod and r.depth > 3)
        ),
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
            and r.name in r.scene.above_ptr
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
        no_name_or_passed_on,
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
            and (r.want["rcode"] == "NXDOMAIN" or passed_on(r.want))
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
            and (r.want["rcode"] == "NXDOMAIN" or passed_on(r.want))
            and r.name in r.scene.shown_above
        ),
        no_data,
    ),
    Rule(
        "nothing exists below a pod's name",
        lambda r: r.is_pod and r.depth > 3 and r.want["rcode"] == "NOERROR",
        no_name_or_passed_on,
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
        "RFC 1034 3.6.2: an alias by a slice of type FQDN answers with its CNAME for every type",
        lambda r: (
            r.plain
            and r.depth in (3, 4)
            and not r.is_external
            and r.targets
            and r.scene.exists(r.name)
            and not r.want["answer"]
        ),
        aliased,
        required=False,
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
        lambda r: r.plain and r.is_port and not r.underscored and r.want["rcode"] == "NOERROR",
        no_name_or_passed_on,
    ),
    Rule(
        "RFC 2181 10.1: beside an alias nothing stands, so addresses stand without it",
        lambda r: r.plain and r.aliased and any(" CNAME " in record for record in r.want["answer"]),
        addresses_or_alias,
        required=False,
    ),
    Rule(
        "an endpoint whose pod's name is no label has the label of its address",
        lambda r: r.plain and (r.is_nameless or r.leads_too_deep),
        named_by_address,
        required=False,
    ),
    Rule(
        "a name that nothing here serves is refused",
        lambda r: r.plain and r.want["rcode"] == "SERVFAIL" and "AA" not in flags(r.want),
        refused,
        required=False,
    ),
    Rule(
        "RFC 2181 9: additional records may be left out without TC",
        lambda r: r.plain and r.type == "SRV" and "TC" in flags(r.want),
        complete_without_additional,
        required=False,
    ),
    Rule(
        "RFC 2181 5: the addresses of a target are sent whole, or not at all",
        lambda r: r.plain and r.service is not None and r.type == "SRV" and r.want["answer"],
        all_addresses_of_targets,
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
