"""Where a command finds its cluster: in manifests, by a kubeconfig, or around the pod it is in."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass

from kdns.cluster.objects import Object, Resource
from kdns.commands.options import DEFAULT_CIDRS, service_cidrs
from kdns.kube import manifests
from kdns.kube.credentials import Connection, in_cluster
from kdns.kube.kubeconfig import kubeconfig
from kdns.kube.reading import Reader


@dataclass(slots=True, frozen=True)
class Found:
    """The objects of a cluster. left_out: why some are missing. where: in words."""

    objects: list[Object]
    left_out: list[str]
    where: str


def add_connection(parser: argparse.ArgumentParser) -> None:
    """--kubeconfig and --context."""
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="how to reach the API server ($KUBECONFIG, ~/.kube)"
    )
    parser.add_argument("--context", metavar="NAME", default="", help="of the kubeconfig")


def add_source(parser: argparse.ArgumentParser) -> None:
    """--manifests beside them."""
    parser.add_argument(
        "--manifests",
        nargs="+",
        metavar="PATH",
        default=[],
        help="the objects in these files and folders, such as kubectl get -o json writes",
    )
    parser.add_argument(
        "--service-cidr",
        metavar="CIDR[,CIDR]",
        type=service_cidrs,
        default=DEFAULT_CIDRS,
        help="where cluster IPs of manifests that state none come from (%(default)s)",
    )
    add_connection(parser)


async def connect(
    options: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> Connection:
    """The kubeconfig that is named; else the pod's account in a pod; else kubectl's kubeconfig.

    Raises CredentialsError.
    """
    named = options.kubeconfig or environ.get("KUBECONFIG", "")
    if not named and not options.context and environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ)
    return await kubeconfig(options.kubeconfig or "", options.context, environ)


async def read_cluster(options: argparse.Namespace, resources: list[Resource]) -> Found:
    """The objects. Raises ManifestError, CredentialsError, ReadingError."""
    if options.manifests:
        read = manifests.load(options.manifests, service_cidrs=options.service_cidr)
        objects = [obj for resource, obj in read if resource in resources]
        return Found(objects, [], ", ".join(options.manifests))
    connection = await connect(options)
    async with Reader(connection) as reader:
        objects, left_out = await reader.objects(resources)
    return Found(objects, left_out, connection.server)
