"""A notebook's page keeps what a reader reads, and nothing that acts."""

import pytest

from lib.bundle.sanitised import sanitised
from lib.render import fenced


@pytest.mark.parametrize(
    "payload",
    [
        '<meta http-equiv="refresh" content="0;url=http://evil.example/">',
        '<form action="http://evil.example/"><input name="q"><button>send</button></form>',
        '<base href="http://evil.example/">',
        '<div style="position:fixed;inset:0;z-index:9">Passed</div>',
        '<div style="margin-top:-999px">Passed</div>',
        "<style>body { display: none }</style>",
        "<style>.built { position: fixed }</style>",
        "<style>.built { fill: red } body { display: none }</style>",
        '<iframe src="http://evil.example/"></iframe><iframe srcdoc="<b>x</b>"></iframe>',
        '<object data="http://evil.example/"></object><embed src="http://evil.example/">',
        '<svg onload="alert(1)"><script>alert(1)</script><foreignObject><b>x</b></foreignObject></svg>',
        '<svg><image href="http://evil.example/"/><use href="http://evil.example/#a"/></svg>',
        '<a href="javascript:alert(1)">x</a><a href="data:text/html,<script>1</script>">y</a>',
        '<a href="#x" ping="http://evil.example/">x</a><img src="data:image/png;base64,x" longdesc="http://evil.example">',
        '<a href=" java&#9;script:alert(1)">x</a><math><mtext><a xlink:href="javascript:alert(1)">x</a></mtext></math>',
        '<div style="background-color: url(http://evil.example/)">x</div><td background="http://evil.example/">',
        '<img src="x" onerror="alert(1)"><link rel="stylesheet" href="http://evil.example/">',
    ],
)
def test_nothing_that_acts_is_left(payload):
    body, css = sanitised(f"<p>before</p>{payload}<p>after</p>")
    text = (body + css).lower()
    words = (
        "evil",
        "script",
        "position",
        "margin",
        "inset",
        "display",
        "onload",
        "onerror",
        "<form",
        "<iframe",
        "<meta",
    )
    assert not [word for word in words if word in text] and "before" in text and "after" in text


def test_tables_drawings_and_pictures_stay():
    table = '<table class="dataframe"><tbody><tr style="text-align: left"><td>1</td></tr></tbody></table>'
    svg = '<svg class="built" viewBox="0 0 9 9"><text x="1" y="2" class="middle">a</text><path d="M 1 2"></path></svg>'
    picture = '<img src="data:image/png;base64,AAAA" alt="x">'
    body, css = sanitised(f"<style>.built path {{ fill: none; stroke: currentColor; }}</style>{table}{svg}{picture}")
    for kept in ('class="dataframe"', "text-align", 'viewBox="0 0 9 9"', 'd="M 1 2"', "data:image/png;base64,AAAA"):
        assert kept in body
    assert css == ".built path { fill: none; stroke: currentColor; }"


def test_a_fence_is_longer_than_the_texts():
    assert fenced("yaml", "a: b\n") == "```yaml\na: b\n```"
    assert fenced("yaml", "a: |\n  ````\n  x").startswith("`````yaml\n") and fenced("yaml", "````").endswith("\n`````")
