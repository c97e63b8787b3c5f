"""The HTML of an executed notebook without what acts: scripts, forms, frames, and styles that cover other parts."""

from __future__ import annotations

import re

import nh3

SVG = {"svg", "g", "rect", "text", "tspan", "path", "line", "circle", "polyline", "polygon", "title", "desc"}
TAGS = nh3.ALLOWED_TAGS | SVG | {"section"}
EVERYWHERE = {
    "class",
    "id",
    "role",
    "aria-label",
    "tabindex",
    "title",
    "style",
    "scope",
    "colspan",
    "rowspan",
    "border",
}
DRAWN = {
    *("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "ry", "dx", "dy", "d", "points", "width", "height"),
    *("viewBox", "xmlns", "transform", "fill", "stroke", "stroke-width", "text-anchor", "font-size"),
}
STYLES = {"color", "background-color", "text-align", "width", "min-width", "max-width", "height", "font-weight"}
RULE = re.compile(  # of the drawings' own style sheets: no property that moves, hides or loads anything
    r"\s*\.(?:built|heat-map|latency|runs)\b[\w\s.-]*\{(?:\s*(?:fill|fill-opacity|opacity|stroke|stroke-width"
    r"|stroke-dasharray|font|font-size|font-style|font-weight|text-anchor)\s*:[\w\s.#,%-]*;?)*\s*\}\s*"
)
LOADING = re.compile(r"\\|/\*|(?:url|image|image-set|expression|src)\s*\(", re.IGNORECASE)
NO_WORDS = re.compile(r'<img(?! [^>]*?alt=")(?= )')  # nh3 writes each attribute as name="value", quotes in it escaped


def sanitised(body: str) -> tuple[str, str]:
    """Return the body with known tags, attributes and style properties only, and the style sheets of its drawings."""
    sheets = re.findall(r"<style[^>]*>([^<]*)</style>", body)
    kept = dict.fromkeys(sheet for sheet in sheets if re.fullmatch(f"(?:{RULE.pattern})+", sheet))
    clean = nh3.clean(
        body,
        tags=TAGS,
        clean_content_tags={"script", "style", "template", "noscript"},
        attributes={**dict.fromkeys(SVG, DRAWN), "*": EVERYWHERE, "a": {"href"}, "img": {"src", "alt"}},
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        filter_style_properties=STYLES,
    )
    return NO_WORDS.sub(r'\g<0> alt="A picture without words"', clean), "\n".join(kept)


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Leave out styles that load something, and data: URLs of anything but pictures."""
    if name == "style" and LOADING.search(value):
        return None
    data = value.strip().lower().startswith("data:")
    return None if name in ("href", "src") and data and (tag, value[5:11].lower()) != ("img", "image/") else value
