"""The benchmark's picture: well-formed, every figure in it, and bars as long as what they stand for."""

from xml.etree import ElementTree as ET

import pytest

from bench.graph import svg
from bench.report import Measurement
from bench.workloads import WORKLOADS

UP = next(w for w in WORKLOADS if w.name == "tcp-up")
HTTP = next(w for w in WORKLOADS if w.name == "http-1")
SVG = "{http://www.w3.org/2000/svg}"


def run(contender, value, *, workload=UP, cpu=None, work=1e9):
    return Measurement(workload.name, contender, 1, value, cpu, work)


MEASURED = [
    *(run("netstack", value, cpu=2.0) for value in (6.0, 9.0, 7.0)),
    *(run("kernel", value) for value in (14.0, 14.0, 14.0)),
    run("netstack", 3000.0, workload=HTTP, cpu=1.0, work=10_000),
    run("kernel", None, workload=HTTP),
]


@pytest.fixture
def picture():
    return ET.fromstring(svg(MEASURED, [UP, HTTP], ["netstack", "kernel"], "Linux <6.18>, 2 cores"))


def test_every_name_unit_and_figure_is_in_it(picture):
    words = [text.text for text in picture.iter(f"{SVG}text")]

    assert words == [
        "Linux <6.18>, 2 cores", "medians; lines from the least to the most of the rounds",
        "TCP upload, Gbit/s", "netstack", "7.00", "kernel", "14.0", "CPU, s/GB", "netstack", "2.00", "kernel", "-",
        "HTTP, 1 connection, req/s", "netstack", "3000", "kernel", "failed",
        "CPU, us/request", "netstack", "100", "kernel", "failed",
    ]  # fmt: skip


def test_a_bar_is_as_long_as_its_median_and_the_line_as_wide_as_the_range(picture):
    # The first rectangle is the background.
    _, ours, theirs, *_ = picture.iter(f"{SVG}rect")
    (line,) = picture.iter(f"{SVG}line")
    start, full = float(theirs.get("x")), float(theirs.get("width"))

    assert float(ours.get("width")) == pytest.approx(full * 7 / 14, abs=0.1)
    assert [float(line.get(end)) - start for end in ("x1", "x2")] == pytest.approx(
        [full * 6 / 14, full * 9 / 14], abs=0.2
    )


def test_nothing_leaves_the_picture(picture):
    _, _, width, height = map(float, picture.get("viewBox").split())

    for shape in picture.iter(f"{SVG}rect"):
        assert float(shape.get("x", 0)) + float(shape.get("width")) <= width
        assert float(shape.get("y", 0)) + float(shape.get("height")) <= height
    for text in picture.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width - 40
        assert 0 <= float(text.get("y")) <= height


def test_nothing_measured_is_a_picture_too():
    picture = ET.fromstring(svg([], [UP], ["netstack"], "nothing"))

    assert [text.text for text in picture.iter(f"{SVG}text")][-1] == "failed"
