"""The page: its data, styles and scripts as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2

SCRIPTS = (
    *("data", "marks", "player", "arrangement", "grid", "large", "charts", "dashboard"),
    *("toolbar", "page"),
)
"""In the order in which they build on one another."""

# The page can load pictures and clips from beside it, and nothing else from anywhere: a text
# that found its way into the markup could neither run nor report home.
POLICY = (
    "default-src 'none'; img-src 'self' file: data:; media-src 'self' file: blob:; "
    "connect-src 'self'; style-src '{style}'; script-src '{script}'; base-uri 'none'; "
    "form-action 'none'"
)


def render(document: dict[str, Any]) -> bytes:
    """The page of a document, as UTF-8."""
    style, script = _style(), _script()
    html = _template().render(
        document=document,
        policy=POLICY.format(style=_source(style), script=_source(script)),
        style=style,
        script=script,
        data=embedded_json(document),
    )
    # Half a surrogate can only stand in the data, where this escape is JSON's own.
    return html.encode("utf-8", "backslashreplace")


def embedded_json(value: Any) -> str:
    """JSON that can stand in a script element: no `<` ends it or opens a comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@lru_cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_asset("page.html"))


def _style() -> str:
    return _asset("page.css")


@lru_cache
def _script() -> str:
    parts = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """A Content-Security-Policy source for an inline element: the sha256 of its text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
