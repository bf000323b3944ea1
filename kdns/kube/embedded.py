"""Certificates and keys that stand within a kubeconfig: what is wrong with one names its field.

The loader of kubeconfigs puts them into files with names of chance, and leaves out what is not
base64 without a word. So they are looked at here before it reads them, and known afterwards.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdns.kube.credentials import CredentialsError

_EXPECTED = {
    "certificate-authority-data": "PEM certificates",
    "client-certificate-data": "PEM certificates",
    "client-key-data": "an unencrypted PEM key",
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a field holds. known: the entry and the field, for people."""

    known: str
    content: bytes

    def is_in(self, file: str) -> bool:
        """Whether this is what the file holds."""
        try:
            return Path(file).read_bytes() == self.content
        except OSError:
            return False


def read(entry: str, values: Mapping[str, object], field: str) -> Embedded | None:
    """What a field of an entry holds; None where there is no such field.

    entry: what it is called, `user 'admin'` say. Raises CredentialsError for what is not base64 of
    something; whether that is PEM is seen when it is used.
    """
    # Empty is as good as none, for kubectl and for the loader.
    if values.get(field, "") == "":
        return None
    known = f"{entry}, {field}"
    text = values[field]
    try:
        return Embedded(known, _decoded(text))
    except ValueError as error:
        why = f"expected base64 of {_EXPECTED[field]}"
        raise CredentialsError(f"{known}: {why} ({error})") from error


def _decoded(text: object) -> bytes:
    """Raises ValueError, which says why not."""
    if text is None:
        raise ValueError("it is null")
    if not isinstance(text, str):
        raise ValueError(f"it is no text but {type(text).__name__}")  # noqa: TRY004 (of a file)
    if text.lstrip().startswith("-----BEGIN"):
        raise ValueError("it is PEM itself, not encoded")
    try:
        # Long ones are often wrapped, and kubectl does not mind.
        content = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if not content:
        raise ValueError("it is empty")
    return content
