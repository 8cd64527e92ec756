#!/usr/bin/env python3
"""Makes pages of a repository pages of a book: a preprocessor of mdBook, and a check of what it built.

    book.py              mdBook's question on standard input, the book as it is to be built on standard output
    book.py supports R   whether the renderer R is served: every one is
    book.py check BOOK   every link of the built pages leads to a file; else exit code 1, with those that do not

In a book, a link out of docs/ leads nowhere. The pages of the root that are worth reading become chapters; of any other file
the text stays, with its path in the repository.
"""
import json
import os
import re
import sys
from pathlib import Path

CHAPTERS = {"ARCHITECTURE.md": "Architecture", "BENCHMARKS.md": "Benchmarks"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```)", re.M | re.S)


def inside(text, folder):
    """The text of a page in `folder` of the repository, with links that lead somewhere in the book."""

    def link(match):
        picture, label, target = match.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        file, mark, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(folder, file))
        if path.startswith("docs/"):
            return f"{picture}[{label}]({path.removeprefix('docs/')}{mark}{anchor})"
        if path in CHAPTERS:
            return f"[{label}]({path}{mark}{anchor})"
        return label if path in label else f"{label} (`{path}`)"

    parts = FENCED.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def rewrite(items):
    for item in items:
        if chapter := isinstance(item, dict) and item.get("Chapter"):
            chapter["content"] = inside(chapter["content"], "docs")
            rewrite(chapter["sub_items"])


def preprocess(asked):
    context, book = json.load(asked)
    items = book["items" if "items" in book else "sections"]
    rewrite(items)
    for path, name in CHAPTERS.items():
        content = inside((Path(context["root"]) / path).read_text(), "")
        chapter = {"name": name, "content": content, "number": None, "sub_items": [], "path": path}
        items.append({"Chapter": chapter | {"source_path": None, "parent_names": []}})
    json.dump(book, sys.stdout)


def check(book):
    dead = set()
    for page in book.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text()):
            if ":" not in target and not (page.parent / target).exists():
                dead.add(f"{page.relative_to(book)}: {target}")
    if dead:
        sys.exit("links of the book that lead nowhere:\n" + "\n".join(sorted(dead)))


match sys.argv[1:]:
    case ["supports", _]:
        pass
    case ["check", book]:
        check(Path(book))
    case _:
        preprocess(sys.stdin)
