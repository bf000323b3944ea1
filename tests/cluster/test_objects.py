"""The API's JSON: what is read of it, what is ignored, and what is refused with which words."""

import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster import objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from tests.cluster.builders import Tree, made, namespace, pod, service, slice_

WHOLE: dict[Resource, Tree] = {
    Resource.SERVICES: service("web.shop", "10.0.0.1"),
    Resource.ENDPOINTSLICES: slice_("s.shop", "web", "10.1.0.1"),
    Resource.NAMESPACES: namespace("shop"),
    Resource.PODS: pod("web-0.shop", "10.1.0.1"),
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("resource", "path", "kind", "api_version", "group"),
    [
        (Resource.SERVICES, "/api/v1/services", "Service", "v1", ""),
        (
            Resource.ENDPOINTSLICES,
            "/apis/discovery.k8s.io/v1/endpointslices",
            "EndpointSlice",
            "discovery.k8s.io/v1",
            "discovery.k8s.io",
        ),
        (Resource.NAMESPACES, "/api/v1/namespaces", "Namespace", "v1", ""),
        (Resource.PODS, "/api/v1/pods", "Pod", "v1", ""),
    ],
)
def test_each_resource_has_its_place_in_the_api(
    resource: Resource, path: str, kind: str, api_version: str, group: str
) -> None:
    found = (resource.path, resource.kind, resource.api_version, resource.group)
    assert found == (path, kind, api_version, group)


@pytest.mark.parametrize("resource", Resource)
def test_json_and_parsed_trees_make_the_same_object(resource: Resource) -> None:
    tree = WHOLE[resource]
    assert objects.decode_object(resource, json.dumps(tree).encode()) == made(tree)[1]


@pytest.mark.parametrize("resource", Resource)
def test_fields_that_dns_does_not_read_are_ignored(resource: Resource) -> None:
    tree = {**WHOLE[resource], "unheard": {"of": [1]}}
    assert objects.convert_object(resource, tree) == made(WHOLE[resource])[1]


@pytest.mark.parametrize("resource", Resource)
@pytest.mark.parametrize("fault", [{"metadata": {}}, {}, {"metadata": 7}])
def test_an_object_without_a_name_is_refused_and_said_to_have_none(
    resource: Resource, fault: Tree
) -> None:
    with pytest.raises(ObjectError, match=f"{resource.kind} without a name: "):
        objects.convert_object(resource, fault)
    with pytest.raises(ObjectError, match=f"{resource.kind} without a name: "):
        objects.decode_object(resource, json.dumps(fault).encode())


@pytest.mark.parametrize(
    ("resource", "field", "said"),
    [
        (Resource.SERVICES, "spec", "Service shop/x: "),
        (Resource.PODS, "status", "Pod shop/x: "),
    ],
)
def test_the_name_is_told_where_only_another_field_is_wrong(
    resource: Resource, field: str, said: str
) -> None:
    tree = {"metadata": {"name": "x", "namespace": "shop"}, field: 7}
    with pytest.raises(ObjectError, match=said):
        objects.convert_object(resource, tree)
    with pytest.raises(ObjectError, match=said):
        objects.decode_object(resource, json.dumps(tree).encode())


def test_an_object_outside_of_namespaces_is_named_without_one() -> None:
    tree = {"metadata": {"name": "shop"}, "spec": 7}
    with pytest.raises(ObjectError, match=r"^Service shop: "):
        objects.convert_object(Resource.SERVICES, tree)


@given(st.sampled_from(Resource), json_values | st.just(object()))
def test_any_tree_is_an_object_or_an_error(resource: Resource, tree: Any) -> None:
    with suppress(ObjectError):
        objects.convert_object(resource, tree)


raws = st.binary(max_size=30) | json_values.map(json.dumps).map(str.encode)


@given(st.sampled_from(Resource), raws)
def test_any_bytes_are_an_object_or_an_error(resource: Resource, raw: bytes) -> None:
    for decode in (
        objects.decode_list,
        objects.decode_event,
        objects.decode_identity,
        objects.decode_resource_version,
        partial(objects.decode_object, resource),
    ):
        with suppress(ObjectError):
            decode(raw)
    assert isinstance(objects.decode_status(raw), objects.Status)


def test_nesting_without_end_is_an_error() -> None:
    with pytest.raises(ObjectError):
        objects.decode_list(b'{"x":' * 100_000)


def test_the_items_of_a_list_stay_bytes() -> None:
    """So that one object of the wrong shape costs itself and not its neighbours."""
    items = [WHOLE[Resource.SERVICES], {"metadata": 7}]
    page = {
        "kind": "ServiceList",
        "metadata": {"resourceVersion": "9", "continue": "more", "remainingItemCount": 3},
        "items": items,
    }
    read = objects.decode_list(json.dumps(page).encode())
    assert read.kind == "ServiceList"
    assert (read.metadata.resource_version, read.metadata.continue_) == ("9", "more")
    assert read.metadata.remaining_item_count == 3
    assert [json.loads(bytes(raw)) for raw in read.items or ()] == items


def test_a_bookmark_has_a_version_and_no_name() -> None:
    line = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}'
    event = objects.decode_event(line)
    assert event.type is objects.EventType.BOOKMARK
    assert objects.decode_resource_version(event.object) == "12"
    with pytest.raises(ObjectError, match="object without metadata"):
        objects.decode_identity(event.object)


def test_what_is_no_status_is_an_empty_one() -> None:
    """Errors must not raise errors."""
    assert objects.decode_status(b"<html>") == objects.Status()
    full = b'{"code":410,"reason":"Expired","message":"too old"}'
    assert objects.decode_status(full) == objects.Status(410, "Expired", "too old")


@pytest.mark.parametrize("resource", Resource)
def test_a_resource_knows_the_type_of_its_objects(resource: Resource) -> None:
    assert resource.type.__name__ == resource.kind
