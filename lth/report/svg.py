"""Figures as SVG for a page: text stays text, and every point says its value when the mouse rests on it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from lth.report.style import take_literally

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


def to_svg(figure: Figure, prefix: str) -> str:
    """An `<svg>` element for a page. `prefix` makes its ids unique there; equal figures give equal text."""
    import matplotlib

    titles: dict[str, list[str]] = {}
    for axis in figure.axes:
        labels = {
            id(container.lines[0]): container.get_label()
            for container in axis.containers
            if hasattr(container, "lines") and container.lines[0] is not None
        }
        ends = {
            id(container.lines[0]): container.lines[2][0].get_segments()
            for container in axis.containers
            if hasattr(container, "lines") and container.lines[0] is not None and container.lines[2]
        }
        for line in axis.lines:
            label = str(labels.get(id(line), line.get_label()))
            if line.get_marker() not in (None, "None", "", " ") and not label.startswith("_"):  # caps of bars are lines
                gid = f"{prefix}-points-{len(titles)}"
                line.set_gid(gid)
                titles[gid] = _titles(line, label, ends.get(id(line)))
    take_literally(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for group in root.iter(f"{{{SVG}}}g"):
        texts = titles.get(group.get("id", ""))
        if texts:
            for mark, text in zip(list(group.iter(f"{{{SVG}}}use")), texts, strict=False):
                ElementTree.SubElement(mark, f"{{{SVG}}}title").text = text
    seen: set[str] = set()
    for element in root.iter():  # equal images, as the scales beside maps are, get equal ids
        name = element.get("id")
        if name in seen:
            del element.attrib["id"]
        elif name:
            seen.add(name)
    for element in list(root):
        if element.tag == f"{{{SVG}}}metadata":
            root.remove(element)
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    text = ElementTree.tostring(root, encoding="unicode")
    return _unique(text, prefix)


def _titles(line: Line2D, label: str, ends: object) -> list[str]:
    """What each drawn point of a line says."""
    texts = []
    xs, ys = (np.asarray(values, dtype=float) for values in line.get_data())
    for place, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        interval = ""
        if isinstance(ends, list) and place < len(ends) and len(ends[place]):
            low, high = (float(end[1]) for end in (ends[place][0], ends[place][-1]))
            interval = f" [{low:.4g}, {high:.4g}]" if np.isfinite(low) and np.isfinite(high) else ""
        texts.append(f"{label} at {x:,.4g}: {y:,.4g}{interval}")
    return texts


def _unique(text: str, prefix: str) -> str:
    """Ids that no other figure of the page has: matplotlib counts from 1 in every figure."""
    ids = set(re.findall(r' id="([^"]+)"', text))
    ours = {name: name if name.startswith(prefix) else f"{prefix}-{name}" for name in ids}
    return re.sub(r'( id="|xlink:href="#|url\(#)([^")]+)', lambda found: found[1] + ours.get(found[2], found[2]), text)
