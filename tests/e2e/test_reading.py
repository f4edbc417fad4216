"""What pages are measured by can fail: each mistake, built into a page that has no other, is found."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.fixtures.reading import mistakes, out_of_reach, poor_contrasts, poor_texts_of_chart

GOOD = """<!doctype html><html lang="en"><head><title>A page</title><style>
body { background: #fff; color: #222; } button, input { border: 1px solid #666; color: #222; background: #fff; }
:focus { outline: 2px solid #00f; } .panel { background: #eee; }
</style></head><body><main>
<h1>Sources</h1><h2>Late ones</h2><h3>Of today</h3><h2>Others</h2>
<p class="panel">A text <a href="#there" id="there">with a link</a></p>
<label for="name">Name</label><input id="name"><button>Send</button>
<p><span class="tag">late</span><img src="data:," alt="A chart"></p>
<table><caption>Lanes</caption><tr><th scope="col">Lane</th></tr><tr><td>a</td></tr></table>
</main></body></html>"""


@pytest.fixture(scope="module")
def built(browser: Browser) -> Iterator[Page]:
    """A page without scripts, whose content each test sets."""
    context = browser.new_context(viewport={"width": 800, "height": 600})
    yield context.new_page()
    context.close()


def _with(page: Page, old: str, new: str) -> None:
    """Build the good page with one thing changed."""
    assert old in GOOD
    page.set_content(GOOD.replace(old, new, 1))


def test_a_good_page_has_nothing_wrong(built: Page) -> None:
    """What is said of the others is said because of what is wrong with them."""
    built.set_content(GOOD)
    assert poor_contrasts(built) + mistakes(built) + out_of_reach(built) == []


@pytest.mark.parametrize(
    ("old", "new", "poor"),
    [
        ("<td>", '<td style="color: #777777">', ["4.48 text <td"]),
        ("<td>", '<td style="color: #767676">', []),  # 4.54 to 1
        ("<h1>", '<h1 style="color: #999; font-size: 24px">', ["2.85 text <h1"]),
        ("<h1>", '<h1 style="color: #8a8a8a; font-size: 24px">', []),  # 3.45 to 1: enough if large
        ("<h1>", '<h1 style="color: #8a8a8a; font-size: 16px">', ["3.45 text <h1"]),
        ('class="panel"', 'style="background: #000; color: #fff"', ["2.23 text <a"]),
        ("A text", '<b style="color: #0005">A text</b>', ["2.29 text <b"]),
        (
            '<input id="name">',
            '<input id="name" style="border-color: #ccc">',
            ["1.61 border <input"],
        ),
        ("<button>", '<button style="border-color: #ccc">', ["1.61 border <button"]),
    ],
)
def test_a_text_of_too_low_contrast_is_found(
    built: Page, old: str, new: str, poor: list[str]
) -> None:
    """Plain text below 4.5 to 1, large text and edges below 3 to 1, on whatever lies behind it; and nothing else."""
    _with(built, old, new)
    assert [re.sub(r"(<\w+).*", r"\1", line) for line in poor_contrasts(built)] == poor


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('<label for="name">Name</label>', "<p>Name</p>", "no label"),
        ("<label for", '<label style="display: none"></label><label for', None),
        ('<input id="name">', '<input id="name" hidden><input>', "no label"),
        ("<h3>Of today</h3>", "<h4>Of today</h4>", "headings 1,2,4,2"),
        ("<h1>Sources</h1>", "", "headings 2,3,2"),
        ("<h2>Others</h2>", "<h1>Others</h1>", "headings 1,2,3,1"),
        ('id="name"', 'id="there"', "id twice: there"),
        ("<button>Send</button>", "<button> </button>", "no name"),
        ('alt="A chart"', "", "no words for a picture"),
        ("<caption>Lanes</caption>", "", "no caption"),
        ('scope="col"', "", "no scope"),
        (">late<", ">!<", "a state without a word"),
        ("<a href", '<a style="text-decoration: none" href', "a link by colour alone"),
        (' lang="en"', "", "no language or title"),
        ("<title>A page</title>", "<title></title>", "no language or title"),
    ],
)
def test_what_cannot_be_heard_or_told_apart_is_found(
    built: Page, old: str, new: str, said: str | None
) -> None:
    """A field without a label, a level of headings that is skipped, and all else that the check knows."""
    _with(built, old, new)
    found = mistakes(built)
    if said is None:
        assert found == []
    else:
        assert any(line.startswith(said) for line in found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<button>", '<button tabindex="-1">', "out of reach: <button"),
        (":focus { outline: 2px solid #00f; }", ":focus { outline: none; }", "without a sign: "),
    ],
)
def test_what_the_keyboard_does_not_reach_is_found(
    built: Page, old: str, new: str, said: str
) -> None:
    """A button that Tab passes by, and one that does not show that it has the focus."""
    _with(built, old, new)
    assert any(line.startswith(said) for line in out_of_reach(built))


def test_a_pale_text_of_a_chart_is_found(built: Page) -> None:
    """By the ground that the chart is shown on: what is dark enough on white is not on black."""
    built.set_content('<svg><text y="9" fill="#767676">09:00</text><text y="9"> </text></svg>')
    assert poor_texts_of_chart(built, "#ffffff") == []
    built.set_content('<svg><text y="9" fill="#777777">09:00</text></svg>')
    assert poor_texts_of_chart(built, "#ffffff") == ["4.48 09:00"]
    assert poor_texts_of_chart(built, "#444444") != []
