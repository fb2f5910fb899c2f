"""From measurements to a picture: one panel for each workload, a bar for each contender, as SVG. No I/O, no clock.

A bar is the median; the line through its end reaches from the least to the most of the rounds. On the right is the CPU
time of the forwarder's processes per piece of work, where there is one.
"""

from collections.abc import Callable, Sequence
from typing import Final
from xml.etree import ElementTree as ET

from bench.report import OURS, Measurement, Summary, number, summarize
from bench.workloads import Workload

_WIDTH: Final = 960
_HEADER: Final = 46
_BAR: Final = 18
_GAP: Final = 4
_TITLE: Final = 24
_PANEL_GAP: Final = 16
_LABELS: Final = 96
"""Of the contenders' names, left of the bars."""
_VALUES: Final = 104
"""Of the figures, right of the bars."""
_MARGIN: Final = 16
_COLUMNS: Final = (_MARGIN, _MARGIN + _WIDTH * 0.56)
_SPANS: Final = (_WIDTH * 0.56 - _LABELS - _VALUES - _MARGIN, _WIDTH * 0.44 - _LABELS - _VALUES - 2 * _MARGIN)
_OURS: Final = "#0b6e99"
_OTHERS: Final = ("#9aa5b1", "#b8a58b", "#d2d6dc", "#c9b6d1")


def svg(
    measurements: Sequence[Measurement], workloads: Sequence[Workload], contenders: Sequence[str], headline: str
) -> str:
    """The whole table as one picture; a workload in which nobody succeeded says so."""
    panel = _TITLE + len(contenders) * (_BAR + _GAP) + _PANEL_GAP
    root = ET.Element("svg", {
        "xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", "font-size": "12", "role": "img",
        **_sizes(width=_WIDTH, height=_HEADER + len(workloads) * panel),
        "viewBox": f"0 0 {_WIDTH} {_HEADER + len(workloads) * panel}",
    })  # fmt: skip
    ET.SubElement(root, "title").text = headline
    ET.SubElement(root, "rect", {**_sizes(width=_WIDTH, height=_HEADER + len(workloads) * panel), "fill": "#ffffff"})
    _text(root, _MARGIN, 20, headline, weight="bold")
    _text(root, _MARGIN, 38, "medians; lines from the least to the most of the rounds", fill="#555555")
    for index, workload in enumerate(workloads):
        top = _HEADER + index * panel
        summaries = {name: summarize(measurements, workload, name) for name in contenders}
        _panel(root, 0, top, f"{workload.title}, {workload.unit}", summaries, _value)
        if any(one is not None and one.cost is not None for one in summaries.values()):
            _panel(root, 1, top, f"CPU, {workload.cost.unit}", summaries, _cost)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


_Figure = tuple[float, float, float] | None
"""Median, least, most."""


def _value(summary: Summary) -> _Figure:
    return summary.middle, summary.least, summary.most


def _cost(summary: Summary) -> _Figure:
    return None if summary.cost is None else (summary.cost, summary.cost, summary.cost)


def _panel(
    root: ET.Element, column: int, top: float, title: str, summaries: dict[str, Summary | None],
    figure: Callable[[Summary], _Figure],
) -> None:  # fmt: skip
    left, span = _COLUMNS[column], _SPANS[column]
    _text(root, left, top + 15, title, weight="bold")
    figures = {name: figure(one) if one is not None else None for name, one in summaries.items()}
    most = max((one[2] for one in figures.values() if one is not None), default=0.0) or 1.0
    others = iter(_OTHERS * len(summaries))
    start = left + _LABELS
    for row, (name, one) in enumerate(figures.items()):
        fill = _OURS if name == OURS else next(others)
        y = top + _TITLE + row * (_BAR + _GAP)
        _text(root, start - 6, y + 13, name, anchor="end", weight="bold" if name == OURS else "normal")
        if one is None:
            _text(root, start + 4, y + 13, "failed" if summaries[name] is None else "-", fill="#555555")
            continue
        middle, least, greatest = (amount / most * span for amount in one)
        ET.SubElement(root, "rect", {**_sizes(x=start, y=y, width=middle, height=_BAR), "fill": fill})
        if greatest > least:
            line = _sizes(x1=start + least, x2=start + greatest, y1=y + _BAR / 2, y2=y + _BAR / 2)
            ET.SubElement(root, "line", {**line, "stroke": "#222222"})
        _text(root, start + max(middle, greatest) + 6, y + 13, number(one[0]))


def _text(
    root: ET.Element, x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal",
    fill: str = "#111111",
) -> None:  # fmt: skip
    attributes = {**_sizes(x=x, y=y), "text-anchor": anchor, "font-weight": weight, "fill": fill}
    ET.SubElement(root, "text", attributes).text = words


def _sizes(**lengths: float) -> dict[str, str]:
    return {name: f"{length:.1f}".removesuffix(".0") for name, length in lengths.items()}
