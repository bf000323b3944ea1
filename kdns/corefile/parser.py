"""Tokens to server blocks, with imports and snippets put in place.

An import is replaced by the tokens of what it names, where it stands, and the reading goes on
there: so a snippet or file may hold server blocks, directives, or the lines of one directive's
block. Three things are asked of it that plain replacement would not give: a line never runs on
past the end of a file or snippet, a block ends in the file in which it began, and nothing imports
itself.
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kdns.corefile.errors import CorefileError
from kdns.corefile.lexer import expand_environment, tokenize
from kdns.corefile.model import Directive, Place, ServerBlock, Token

Read = Callable[[str], list[tuple[str, str]]]
"""The (file name, text) of each file that a path or glob pattern matches, in order."""

MAX_IMPORTS = 1000
"""As many imports as CoreDNS follows in one Corefile."""
MAX_TOKENS = 600_000
"""More than a ConfigMap can hold, which is 1 MiB; a thousand imports could make far more of it."""
MAX_NESTING = 64
"""Blocks within blocks; no directive needs more than three."""


def parse(text: str, file: str, *, environ: Mapping[str, str], read: Read) -> list[ServerBlock]:
    """The server blocks of a Corefile, in order; none for an empty one.

    `file` is how errors name the text, and imports are relative to its folder. `read` is given
    joined paths and patterns; an OSError or UnicodeError of it becomes the import's error. An
    empty answer is an error for a path, and nothing for a pattern. Raises CorefileError.
    """
    parser = _Parser(environ, read)
    parser.push(tokenize(text, file), _Source(posixpath.normpath(file), None), Place(file, 1))
    return parser.blocks()


class _Source:
    """One reading of a file or snippet, and by whom it was imported. Compared by identity."""

    __slots__ = ("importer", "name")

    def __init__(self, name: str, importer: "_Source | None") -> None:
        self.name = name
        self.importer = importer

    def chain(self) -> list[str]:
        """The names from the first importer to this."""
        names: list[str] = []
        source: _Source | None = self
        while source is not None:
            names.append(source.name)
            source = source.importer
        return names[::-1]


class _Item(NamedTuple):
    token: Token
    source: _Source

    def is_mark(self, mark: str) -> bool:
        return self.token.text == mark and not self.token.quoted

    def continues(self, before: "_Item") -> bool:
        """Whether this stands on the line on which `before` ends."""
        end = before.token.line + before.token.text.count("\n")
        return self.source is before.source and self.token.line <= end


class _Parser:
    def __init__(self, environ: Mapping[str, str], read: Read) -> None:
        self._environ = environ
        self._read = read
        self._ahead: list[_Item] = []  # the next one last
        self._taken: _Item | None = None
        self._snippets: dict[str, list[Token]] = {}
        self._imports = 0
        self._tokens = 0

    def push(self, tokens: Iterable[Token], source: _Source, place: Place) -> None:
        """Have these tokens read next. Raises CorefileError at `place` when they are too many."""
        items: list[_Item] = []
        for token in tokens:
            self._tokens += 1
            if self._tokens > MAX_TOKENS:
                raise CorefileError.at(place, f"more than {MAX_TOKENS} words, imports included")
            items.append(_Item(token, source))
        self._ahead.extend(reversed(items))

    def blocks(self) -> list[ServerBlock]:
        """Everything up to the end."""
        blocks: list[ServerBlock] = []
        while (item := self._peek()) is not None:
            if item.is_mark("import"):
                self._import()
            elif block := self._server_block():
                blocks.append(block)
        return blocks

    # The stream of tokens.

    def _peek(self) -> _Item | None:
        return self._ahead[-1] if self._ahead else None

    def _peek_on_line(self) -> _Item | None:
        """The next item when it is on the line of the last one taken."""
        item = self._peek()
        if item is None or self._taken is None or not item.continues(self._taken):
            return None
        return item

    def _take(self) -> _Item:
        self._taken = self._ahead.pop()
        return self._taken

    def _expand(self, token: Token) -> str:
        return expand_environment(token.text, self._environ)

    # Server blocks and snippets.

    def _server_block(self) -> ServerBlock | None:
        """The next server block; None when it was the definition of a snippet."""
        keys = self._keys()
        name = keys[0].text
        if len(keys) == 1 and name.startswith("(") and name.endswith(")"):
            self._define(keys[0], name[1:-1])
            return None
        opening = self._peek()
        if opening is None or not opening.is_mark("{"):
            return ServerBlock(keys, self._lines(None, 1))
        return ServerBlock(keys, self._lines(self._take(), 1))

    def _keys(self) -> tuple[Token, ...]:
        keys: list[Token] = []
        first = last = self._ahead[-1]
        expecting = True
        while (item := self._peek()) is not None:
            starts_line = self._peek_on_line() is None
            if starts_line and not expecting:
                break
            if starts_line and item.is_mark("import"):
                self._import()
            elif item.is_mark("{"):
                break
            else:
                found, more = self._split_key(self._take().token)
                # An empty word, from a variable that is not set, is not what a comma waits for.
                expecting = more or (expecting and not found and bool(keys))
                keys += found
                last = item
        if expecting:
            raise CorefileError.at(last.token, _missing_key(self._peek(), keys))
        if not keys:
            raise CorefileError.at(first.token, "expected a zone, got an empty word")
        return tuple(keys)

    def _split_key(self, token: Token) -> tuple[list[Token], bool]:
        """The keys in one word, and whether it ends in a comma, so that more must follow."""
        if token.quoted:
            text = self._expand(token)
            return ([Token(text, token.file, token.line, quoted=True)] if text else []), False
        if token.text == "}":
            raise CorefileError.at(token, "unexpected '}': no block is open here")
        _refuse_brace(token)
        text = self._expand(token)
        keys = [Token(part, token.file, token.line) for part in text.split(",") if part]
        return keys, text.endswith(",")

    def _define(self, key: Token, name: str) -> None:
        """Keep the tokens of a snippet, unread, for those who import it."""
        opening = self._peek()
        if not name:
            raise CorefileError.at(key, "expected a snippet's name between ( and )")
        if name in self._snippets:
            raise CorefileError.at(key, f"snippet {name!r} is already defined")
        if opening is None or not opening.is_mark("{"):
            raise CorefileError.at(key, f"snippet {name!r}: expected '{{' after ({name})")
        self._take()
        body: list[Token] = []
        depth = 1
        while self._peek() is not None:
            item = self._take()
            depth += item.is_mark("{") - item.is_mark("}")
            if not depth:
                _check_same_source(opening, item)
                self._snippets[name] = body
                return
            body.append(item.token)
        raise _unclosed(opening)

    # Directives.

    def _lines(self, opening: _Item | None, depth: int) -> tuple[Directive, ...]:
        """The directives up to the brace that closes `opening`, or to the end without one."""
        if opening is not None and depth > MAX_NESTING:
            raise CorefileError.at(opening.token, f"blocks nested deeper than {MAX_NESTING}")
        lines: list[Directive] = []
        while (item := self._peek()) is not None:
            if item.is_mark("}"):
                if opening is None:
                    raise CorefileError.at(item.token, "unexpected '}': no block is open here")
                _check_same_source(opening, item)
                self._take()
                return tuple(lines)
            if item.is_mark("import"):
                self._import()
            else:
                lines.append(self._directive(depth))
        if opening is not None:
            raise _unclosed(opening)
        return tuple(lines)

    def _directive(self, depth: int) -> Directive:
        token = self._name()
        name = self._expand(token)
        if not name:
            raise CorefileError.at(token, "expected a directive, got an empty word")
        args: list[Token] = []
        block: tuple[Directive, ...] | None = None
        while (item := self._peek_on_line()) is not None and not item.is_mark("}"):
            if item.is_mark("{"):
                block = self._lines(self._take(), depth + 1)
                self._end_line("after '}'")
                break
            arg = self._take().token
            args.append(Token(self._expand(arg), arg.file, arg.line, arg.quoted))
        return Directive(name, token.file, token.line, tuple(args), block)

    def _name(self) -> Token:
        item = self._take()
        if item.is_mark("{"):
            message = "unexpected '{': it must end the line of the directive that it belongs to"
            raise CorefileError.at(item.token, message)
        if not item.token.quoted:
            _refuse_brace(item.token)
        return item.token

    def _end_line(self, where: str) -> None:
        item = self._peek_on_line()
        if item is not None and not item.is_mark("}"):
            message = f"expected the end of the line {where}, got {item.token.text!r}"
            raise CorefileError.at(item.token, message)

    # Imports.

    def _import(self) -> None:
        """Put what is imported in the place of the import."""
        word = self._take()
        operand = self._peek_on_line()
        pattern = "" if operand is None else self._expand(operand.token)
        if operand is None or operand.is_mark("{") or operand.is_mark("}") or not pattern:
            raise CorefileError.at(word.token, "import: expected a snippet, a file or a pattern")
        self._take()
        self._end_line(f"after import {pattern}")
        self._imports += 1
        if self._imports > MAX_IMPORTS:
            raise CorefileError.at(word.token, f"more than {MAX_IMPORTS} imports")
        if pattern in self._snippets:
            source = _enter(f"({pattern})", word)
            self.push(self._snippets[pattern], source, word.token.place)
        else:
            self._import_files(word, pattern)

    def _import_files(self, word: _Item, pattern: str) -> None:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(word.token.file), pattern))
        try:
            files = self._read(path)
        except (OSError, UnicodeError) as error:
            raise CorefileError.at(word.token, f"import {pattern}: {error}") from error
        if not files and not any(wildcard in pattern for wildcard in "*?["):
            message = f"import {pattern}: neither a snippet defined above nor a file ({path})"
            raise CorefileError.at(word.token, message)
        # The last first: each is put before what was pushed until then.
        for name, text in reversed(files):
            source = _enter(posixpath.normpath(name), word)
            self.push(tokenize(text, name), source, word.token.place)


def _enter(name: str, word: _Item) -> _Source:
    """The source that an import opens. Raises CorefileError when it is already being read."""
    chain = word.source.chain()
    if name in chain:
        route = " -> ".join([*chain[chain.index(name) :], name])
        raise CorefileError.at(word.token, f"import of itself: {route}")
    return _Source(name, word.source)


def _check_same_source(opening: _Item, closing: _Item) -> None:
    if opening.source is not closing.source:
        message = f"'}}' closes the block opened at {opening.token.place}: expected it in that file"
        raise CorefileError.at(closing.token, message)


def _unclosed(opening: _Item) -> CorefileError:
    return CorefileError.at(opening.token, "this block is never closed: expected '}'")


def _missing_key(following: _Item | None, keys: list[Token]) -> str:
    got = "the end of the file" if following is None else repr(following.token.text)
    return f"expected {'another zone after the comma' if keys else 'a zone'}, got {got}"


def _refuse_brace(token: Token) -> None:
    """Braces are words of their own; "health{" is a slip that would be misread far below."""
    if token.text.endswith(("{", "{}")):
        raise CorefileError.at(token, f"expected a space before '{{' in {token.text!r}")
