"""Texts without what is nobody else's business: passwords, keys, addresses that are secrets
themselves, and the names of people's home folders. Rather too much is hidden than too little."""

from __future__ import annotations

import re

HIDDEN = "***"

_START = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
"""Of a word, also behind a line end or tab in JSON."""

_QUOTE = r"(?:\\{0,8}[\"'])"
_SPACES = r"\s{0,8}"
_BETWEEN = (
    rf"(?:{_QUOTE}?{_SPACES}[:=]{_SPACES}|{_QUOTE}{_SPACES},{_SPACES})(?:[a-z]?{_QUOTE})?{_SPACES}"
)
"""From a name to its value: NAME=..., NAME: ..., "name": "...", ("name", "..."), f"..."."""

_HEADER = re.compile(
    rf"({_START}(?:proxy-)?authorization{_BETWEEN})"
    # Scheme and credentials, whatever the scheme; of some their parameters, in quotes.
    rf"(?:(?:digest|hawk|oauth)\s[^\n]*|[^\s\"'\\,]+(?:(?:\s+|%20|\+)[^\s\"'\\,]+)?(?:,\s*[^\s,]+)*)",
    re.I,
)
_COOKIE = re.compile(rf"({_START}(?:set-)?cookie{_BETWEEN})[^\"'\\\n]+", re.I)
_SCHEME = re.compile(
    rf"{_START}(bearer|basic)\s+[\w.~+/=-]{{8,}}"
    rf"|{_START}(token|api-?key|digest|negotiate)\s+(?=[^\s\d]*\d)[\w.~+/=:-]{{16,}}",
    re.I,
)
_NAMED = re.compile(
    rf"({_START}[\w-]*(?:token|secret|passw(?:or)?d|passphrase|pwd|api[_-]?key|access[_-]?key|"
    r"secret[_-]?key|private[_-]?key|(?:access|auth)[_-]?key[_-]?id|credentials?|webhook)"
    rf"{_BETWEEN})"
    r"(?:(?<=\")[^\"\n]*?(?=\\*\")|(?<=')[^'\n]*?(?=\\*')|[^\s,;}&\"'\\]+)",
    re.I,
)
_ALONE = [
    re.compile(
        rf"{_START}(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[a-z]-|AKIA|ASIA|AIza)[\w-]{{12,}}"
    ),
    re.compile(rf"{_START}eyJ[\w-]{{8,}}\.[\w-]{{8,}}\.[\w-]*"),
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
    ),
]
"""What such things look like by themselves."""

_SLASH = r"(?:\\{0,4}/)"
"""Some write JSON with a backslash before each."""
_USER = re.compile(rf"(?<=:)({_SLASH}{{2}})[^/\s\"'<>\\]*@")
_ADDRESS = re.compile(
    rf"(?:(?<![\w.-])|(?<=\\[nrt]))((?:[a-z][a-z0-9+.-]*:{_SLASH}{{2}})?)([\w.-]+)((?::\d+)?)"
    rf"({_SLASH}[^\s\"'<>]+)",
    re.I | re.ASCII,
)
_HOOK = re.compile(r"[\w.-]*hooks?(?![a-z])", re.I)
"""A part of an address that says what it is for."""
_OF_HOOKS = re.compile(
    r"[\w.-]*hook[\w-]*\.[\w.-]+|api\.telegram\.org|(?:open|www)\.feishu\.cn|open\.larksuite\.com"
    r"|oapi\.dingtalk\.com|qyapi\.weixin\.qq\.com|chat\.googleapis\.com|[\w.-]+\.logic\.azure\.com"
    r"|maker\.ifttt\.com|(?:sc|sctapi)\.ftqq\.com|api\.day\.app|(?:www\.)?pushplus\.plus",
    re.I,
)
"""Services that know their senders by the address alone."""
_QUERY = re.compile(
    r"([?&;#][\w.~%-]{0,64}(?:key|token|sig|secret|auth|pass|pwd|cred|session|jwt|ticket|hash"
    r"|(?<![a-z])code(?![a-z]))[\w.~%-]{0,64}=)[^&\s\"'#\\<>]+"
    # Whatever it is called: long, and no word.
    r"|([?&][\w.~%-]+=)(?=[\w.~%+/-]*\d)(?=[\w.~%+/-]*[a-z])[\w.~%+/=-]{20,}",
    re.I,
)

_END = r"(?![\w.-])"
_NAME = r"[^\\/\s\"':;,<>|*?&#()\[\]{}]+"
_PERSON = rf"(?:[a-z][\\/]+)?(?:{_NAME}(?: {_NAME}){{1,3}}(?=[\\/])|{_NAME})"
"""A folder's name, with spaces where the path goes on after it; some put a letter before it."""
_HOME = re.compile(
    rf"(?:(?<![\w\\/.~-])|(?<=://))(?:/root{_END}|(?:/home|/Users)/+{_PERSON})"
    r"|(?:(?<![A-Za-z0-9_\\/.~-])|(?<=\\[nrt]))~[^\W\d][\w.-]*"
)
_DEEP_HOME = re.compile(
    rf"([\\/](?:[\w-]*homes?\d*|users?|accounts|documents and settings)[\\/]+){_PERSON}", re.I
)


def masked(text: str, home: str | None = None) -> str:
    """Text without passwords, keys, secret addresses and names of home folders.

    Args:
        home: the home folder of whoever packs it.
    """
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    text = _ADDRESS.sub(_without_hook, text)
    text = _QUERY.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _COOKIE.sub(rf"\1{HIDDEN}", text)
    text = _SCHEME.sub(lambda found: f"{found[1] or found[2]} {HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    for pattern in _ALONE:
        text = pattern.sub(HIDDEN, text)
    if home and len(home) > 1:
        text = re.sub(re.escape(home.rstrip("/")) + _END, "~", text)
    text = _HOME.sub("~", text)
    return _DEEP_HOME.sub(rf"\1{HIDDEN}", text)


def _without_hook(found: re.Match[str]) -> str:
    """An address; where it is a secret itself, only its host stays."""
    scheme, host, port, rest = found.groups()
    parts = re.split(r"\\*/", rest.partition("?")[0])
    is_address = bool(scheme) or "." in host
    if _OF_HOOKS.fullmatch(host) or (is_address and any(map(_HOOK.match, parts))):
        return f"{scheme}{host}{port}/{HIDDEN}"
    return found[0]
