"""The HTML report: well-formed, self-contained, and safe with any name."""

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.report.columns import Column
from modelsurgeon.report.html import html_page
from modelsurgeon.report.table import Table

VOID = {"meta", "wbr"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects them with their attributes and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def layers(name: str) -> Table:
    return Table(
        title=name,
        columns=[
            Column(key="name", title="name"),
            Column(key="share", title="share", kind="percent"),
            Column(key="share", title="", kind="bar"),
        ],
        rows=[{"name": name, "share": 0.5}],
        total={"name": "total", "share": 1.0},
        notes=[name],
    )


@given(st.text(max_size=80))
def test_names_do_not_change_the_tags(name: str) -> None:
    page = Outline(html_page(name, [layers(name)], lead=[name]))
    calm = Outline(html_page("x", [layers("x")], lead=["x"]))
    assert not page.open
    free = {"caption", "code", "span", "wbr"}  # a name may look like a command, or be long
    assert [tag for tag in page.tags if tag not in free] == [tag for tag in calm.tags if tag not in free]
    assert page.attributes <= calm.attributes | {"class"}


def test_a_script_in_a_name_is_text() -> None:
    page = Outline(html_page("m", [layers("<script>alert(1)</script>")]))
    assert "script" not in page.tags
    assert any("<script>alert(1)" in part for part in page.text)


def test_the_page_loads_nothing() -> None:
    page = html_page("net", [layers("conv1")], lead=["one line"])
    assert not re.search(r"(src|href|@import|url\()", page)
    assert page.startswith("<!doctype html>")
    assert "prefers-color-scheme: dark" in page


def test_the_page_has_every_table() -> None:
    page = html_page("net", [layers("first"), layers("second")])
    assert page.count("<table>") == 2
    assert page.index("first") < page.index("second")
