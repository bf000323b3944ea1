"""What one manifest file holds of the four kinds, and what is wrong with it."""

import json
import logging
from textwrap import dedent

import pytest

from kdns.cluster.objects import Meta, Namespace, Pod, Resource, Service
from kdns.kube.files import FileState, parse_file


def parse(text: str) -> FileState:
    return parse_file("f.yaml", dedent(text).encode(), b"")


def service(metadata: str = "", spec: str = "{}") -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{name: web, {metadata}}}, spec: {spec}}}"


def meta_of(metadata: str) -> Meta:
    state = parse(service(metadata))
    assert state.is_whole
    return state.found[0].obj.metadata


def test_the_four_kinds_are_found_and_others_are_left_out_without_a_word() -> None:
    kinds = [
        ("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "Namespace"),
        ("v1", "Pod"), ("apps/v1", "Deployment"), ("serving.knative.dev/v1", "Service"),
    ]  # fmt: skip
    text = "---\n".join(
        f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n" for version, kind in kinds
    )
    state = parse(text)
    assert [found.resource for found in state.found] == [
        Resource.SERVICES, Resource.ENDPOINTSLICES, Resource.NAMESPACES, Resource.PODS,
    ]  # fmt: skip
    assert not state.messages


def test_old_kinds_of_endpoints_are_left_out_with_a_word() -> None:
    state = parse(
        """\
        {apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, metadata: {name: x}}
        ---
        {apiVersion: v1, kind: Endpoints, metadata: {name: x}}
        """
    )
    old = "discovery.k8s.io/v1beta1"
    assert not state.found
    assert state.is_whole
    assert [(m.level, m.text) for m in state.messages] == [
        (
            logging.WARNING,
            f"f.yaml:1: EndpointSlice of {old} left out, expected discovery.k8s.io/v1",
        ),
        (logging.DEBUG, "f.yaml:3: Endpoints left out, expected EndpointSlices instead"),
    ]


def test_the_namespace_is_default_but_that_of_a_namespace_is_empty() -> None:
    assert meta_of("").namespace == "default"
    assert meta_of("namespace: ''").namespace == "default"
    assert meta_of("namespace: ~").namespace == "default"
    assert meta_of("namespace: shop").namespace == "shop"
    state = parse("{apiVersion: v1, kind: Namespace, metadata: {name: shop, namespace: x}}")
    assert state.found[0].obj == Namespace(Meta(name="shop"))


@pytest.mark.parametrize(("value", "written"), [("on", "true"), ("1.10", "1.1"), ("7", "7")])
def test_a_label_that_is_no_text_costs_the_object_and_is_named(value: str, written: str) -> None:
    state = parse(service(f"namespace: shop, labels: {{version: {value}}}"))
    assert not state.found
    (message,) = state.messages
    assert message.level == logging.ERROR
    assert message.text == (
        f"f.yaml:1: Service shop/web: label 'version' is {written}, expected text: "
        "write it in quotes"
    )


def test_a_date_is_text_for_a_label_as_it_is_for_the_api() -> None:
    assert meta_of("labels: {day: 2026-11-23}").labels == {"day": "2026-11-23"}


def test_annotations_may_be_anything() -> None:
    meta = meta_of("annotations: {a: on, b: 1.10, c: 7, d: 2026-11-23, e: [1], f: ~, 8: x}")
    assert meta.annotations == {"a": "true", "b": "1.1", "c": "7", "d": "2026-11-23", "8": "x"}
    assert meta_of("annotations: [1]").annotations is None


def test_nulls_are_absent_fields() -> None:
    assert meta_of("labels: ~, creationTimestamp: ~, resourceVersion: ~").labels is None
    state = parse(service(spec="~"))
    assert isinstance(state.found[0].obj, Service)


def test_fields_that_are_not_read_may_hold_anything() -> None:
    state = parse(
        """\
        apiVersion: v1
        kind: Pod
        metadata: {name: x, generation: on, managedFields: 5, 7: 8, ownerReferences: {a: [1]}}
        spec: 17
        status: {phase: Running, podIP: 10.0.0.1, startTime: 2026-11-23}
        when: 2026-11-23
        """
    )
    assert state.is_whole
    pod = state.found[0].obj
    assert isinstance(pod, Pod)
    assert pod.status.pod_ip == "10.0.0.1"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{apiVersion: v1, kind: Service}", "Service without a name: "),
        ("{apiVersion: v1, kind: Service, metadata: 5}", "Service without a name: "),
        ("{apiVersion: v1, kind: Service, metadata: {name: 5}}", "got `int`"),
        (service(spec="{ports: [{port: http}]}"), "Service default/web: Expected `int`"),
        (service("labels: 5"), "Service default/web: labels are 5, expected a mapping"),
    ],
)
def test_an_object_of_the_wrong_shape_costs_itself(text: str, what: str) -> None:
    state = parse(f"{text}\n---\n{service()}")
    (message,) = state.messages
    assert message.text.startswith("f.yaml:1: ")
    assert what in message.text
    assert not state.is_whole
    assert [found.key for found in state.found] == [("default", "web")]


def test_the_fields_that_selectors_know() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Failed"},
    }
    assert parse(json.dumps(pod)).found[0].fields == {
        "metadata.name": "x",
        "metadata.namespace": "shop",
        "spec.nodeName": "n1",
        "status.phase": "Failed",
    }


def test_where_an_object_stands_is_remembered() -> None:
    assert parse(f"\n\n{service()}").found[0].origin == "f.yaml:3"
