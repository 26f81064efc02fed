"""What the site needs beside Markdown: links out of docs/ become plain names.

Belongs here: hooks of mkdocs. Does not belong here: content. On a site there is no repository around the pages, so a
link to a source file would lead nowhere; in the repository's own view it stays a link.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text with links to files outside docs/, and to folders, as their text."""
    folder = posixpath.dirname(page.file.src_uri)

    def plain(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        outside = path.startswith("..") or target.endswith("/") or not posixpath.splitext(path)[1]
        return match["text"] if outside else match[0]

    return LINK.sub(plain, markdown)
