"""On clusters by chance, what is explained agrees with what is answered, and there is a reason."""

import pytest

from kdns.cluster.objects import Resource, convert_object
from kdns.compare.questions import questions
from kdns.explain.explanation import Ending, Explainer
from kdns.plan import make_plan
from kdns.plugins.rereading import read_octets
from tests.conformance.random_clusters import RandomCluster, strange_questions

RESOURCES = {resource.kind: resource for resource in Resource}
OPTIONS = (
    "pods insecure",
    "pods verified\nendpoint_pod_names",
    "namespaces ns0 ns1\nignore empty_service",
    "noendpoints",
    "labels app=x",
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", OPTIONS)
def test_an_answer_lacks_nothing_and_a_denial_has_a_reason(options: str, seed: int) -> None:
    trees = RandomCluster(seed).objects()
    items = [convert_object(RESOURCES[tree["kind"]], tree) for tree in trees]
    text = f". {{\n kubernetes cluster.local in-addr.arpa {{\n {options}\n }}\n}}"
    explainer = Explainer(make_plan(text, "Corefile", environ={}), items, read_octets)
    asked = [(q.name, q.type) for q in questions(items, ("cluster.local.",))]
    wrong = []
    for name, rtype in [*asked, *strange_questions(seed, 200)]:
        tried = explainer.follow(name, rtype)
        in_cluster = name.endswith("cluster.local.")
        answered = tried.ending is Ending.ANSWER and not tried.reasons.missing
        denied = tried.ending is Ending.NXDOMAIN and (tried.reasons.missing or not in_cluster)
        other = tried.ending not in (Ending.ANSWER, Ending.NXDOMAIN)
        if not (answered or denied or other):
            wrong.append((name, rtype, tried.ending, tried.reasons.missing))
    assert wrong == []
