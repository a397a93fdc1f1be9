"""Reads a page of a report back."""

import html.parser


class Reader(html.parser.HTMLParser):
    """Collects links, pictures and text, and insists on closed tags."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.add(tag)
        values = {name: value or "" for name, value in attrs}
        self.links += [values[name] for name in ("href", "src", "srcset", "data") if name in values]
        if tag == "img":
            self.pictures.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        self.text += data
