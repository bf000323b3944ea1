# kdns, for the Deployment that CoreDNS has: docker buildx build --tag kdns .
#
# BASE is any image with Python 3.11 or newer as `python3`, with pip and venv. A release names it by
# digest. Nothing is fetched but packages, by hash, from the package index that pip is told of.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /build
# Wheels only: there is no compiler here, and an archive would run code of its own to be built.
COPY requirements/run.txt requirements/
RUN /build/bin/pip wheel --no-cache-dir --only-binary :all: --require-hashes --requirement requirements/run.txt --wheel-dir /wheels
RUN /build/bin/pip install --no-cache-dir --no-index --find-links /wheels hatchling editables
COPY pyproject.toml README.md ./
COPY kdns kdns
RUN /build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels .
# Compiled now, since the root of a container is read-only; without pip, which nobody needs there.
RUN python3 -m venv --without-pip /opt/kdns
RUN /build/bin/pip --python /opt/kdns/bin/python3 install --no-cache-dir --no-index --find-links /wheels kdns
# Of the package kubernetes only the reader of kubeconfigs is used (kdns/kube/kubeconfig.py); its
# generated client is 120 MB.
RUN rm -r /opt/kdns/lib/python3.*/site-packages/kubernetes/client /opt/kdns/lib/python3.*/site-packages/kubernetes/aio/client
RUN /opt/kdns/bin/python3 -c "from kdns.kube import kubeconfig; kubeconfig._import_loader()"

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="kdns" \
      org.opencontainers.image.description="The DNS server of a Kubernetes cluster: CoreDNS's Corefile and answers, in Python." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.documentation="docs/install.md"
COPY --from=build /opt/kdns /opt/kdns
# Port 53 without root: CAP_NET_BIND_SERVICE as a file capability of the interpreter, which holds
# where new privileges are forbidden too, if the container is given it. It is permitted and not
# effective: kdns takes it as it binds (kdns/net/privilege.py), and where low ports are free for all
# (net.ipv4.ip_unprivileged_port_start) the image runs without any capability.
# The attribute is a vfs_cap_data of revision 2: permitted and inheritable, low and high words.
RUN ["python3", "-c", "import os, struct, sys; os.setxattr(os.path.realpath(sys.executable), 'security.capability', struct.pack('<5I', 0x02000000, 1 << 10, 0, 0, 0))"]
ENV PATH=/opt/kdns/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /
EXPOSE 53/udp 53/tcp 8080/tcp 8181/tcp 9153/tcp
USER 65532:65532
ENTRYPOINT ["kdns", "serve"]
