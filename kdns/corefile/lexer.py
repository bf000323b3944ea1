"""Corefile text to tokens, word by word as CoreDNS reads it.

Words are separated by white space. A word that begins with a double quote ends at the next one, on
whichever line that is; inside, only `\\"` is an escape. There are no other quotes and no line
continuation. Outside quotes a carriage return is as if it were not there.

A `#` before a word makes the rest of the line a comment. A `#` inside a word drops the rest of
that word only: CoreDNS does so, and a Corefile must not mean two things.
"""

import re
from collections.abc import Iterator, Mapping

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Token

# Go's unicode.IsSpace without the carriage return: Python's \s would add the separators 1C-1F.
_SPACE = "\t\n\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

_SCAN = re.compile(
    rf"""
      (?P<skip> [{_SPACE}\r]+ | \#[^\n]* )
    | "(?P<quoted> (?:[^"\\]|\\.)*+ )"
    | (?P<open> " )
    | (?P<word> [^{_SPACE}\#]+ ) (?: \#[^{_SPACE}]* )?
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

# No braces within a name: without a bound, a text of nothing but openings would cost its square.
_REFERENCE = re.compile(r"\{%([^%{}]+)%\}|\{\$([^{}]+)\}")


def tokenize(text: str, file: str) -> Iterator[Token]:
    """The tokens of a text, references to the environment still in them.

    Raises CorefileError for a quote that is never closed, at the line where it opens.
    """
    line = 1
    for match in _SCAN.finditer(text.removeprefix("\ufeff")):
        quoted, word = match["quoted"], match["word"]
        if match["open"]:
            raise CorefileError('this quote is never closed: expected another "', file, line)
        if quoted is not None:
            yield Token(_ESCAPE.sub(_unescape, quoted), file, line, quoted=True)
        elif word is not None:
            yield Token(word.replace("\r", ""), file, line)
        line += match[0].count("\n")


def _unescape(match: re.Match[str]) -> str:
    return '"' if match[1] == '"' else match[0]


def expand_environment(text: str, environ: Mapping[str, str]) -> str:
    """`text` with `{%NAME%}` and `{$NAME}` replaced; a variable that is not set is empty.

    What a value holds is not searched for further references.
    """
    return _REFERENCE.sub(lambda match: environ.get(match[1] or match[2], ""), text)
