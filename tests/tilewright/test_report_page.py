# SPDX-License-Identifier: Apache-2.0
"""The page of the report: as text, on the command line, and in a browser."""

import dataclasses
import hashlib
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tilewright as tw
from tilewright.cli import main
from tilewright.report import report_page
from tilewright.report.chart import Labels, Scale, decades, ticks
from tilewright.report.markup import clean, element, join, kib, short
from tilewright.report.timeline import merged
from tilewright_hdl.program import RunStep

from .browser import Browser, chromium
from .conftest import Files
from .failures import failed

EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;</style></title>"


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attributes}
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts[tag] = self.texts.get(tag, "") + data


def evil(program: tw.Program) -> tw.Program:
    """A program of which every name is an attack."""
    def rename(value: object) -> object:
        if isinstance(value, dict):
            return {key: EVIL if key in ("name", "order") else rename(item) for key, item in value.items()}
        return [rename(item) for item in value] if isinstance(value, (list, tuple)) else value

    return dataclasses.replace(
        program, name=EVIL, config=dataclasses.replace(program.config, name=EVIL),
        layers=tuple(dataclasses.replace(layer, name=EVIL, op=EVIL, reason=layer.reason and EVIL)
                     for layer in program.layers),
        report=rename(program.report),
    )


def test_names_stay_names(with_host: Files) -> None:
    program = tw.Program.load(with_host.program)
    tame, wild = Tags(report_page(program)), Tags(report_page(evil(program)))
    assert wild.tags == tame.tags and wild.tags["script"] == 1 and "img" not in wild.tags
    assert wild.attributes == tame.attributes
    assert not [name for name in wild.attributes if name.startswith("on") or name in ("src", "href")]
    assert clean(EVIL) in wild.texts["h1"] and clean(EVIL) in wild.texts["title"]


def test_the_page_is_by_itself_and_runs_no_script_but_its_own(small: Files) -> None:
    page = report_page(tw.Program.load(small.program))
    assert not re.findall(r"https?:|//\w+\.|@import|url\(|src=|href=", page)
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page


def test_figures_stand_on_the_page(with_host: Files) -> None:
    program = tw.Program.load(with_host.program)
    text = Tags(report_page(program)).texts["body"]
    for word in (f"{program.predicted_cycles:,}", f"{program.macs:,}", "conv1", "first fit", "softmax"):
        assert word in text
    for layer in program.layers:
        assert layer.reason in text
    run = next(step for step in program.report["steps"] if step["kind"] == "run")
    assert f"{sum(layer['first_fit_cycles'] for layer in run['layers']):,} to " in text


def test_compulsory_bytes_stand_beside_the_traffic(small: Files) -> None:
    program = tw.Program.load(small.program)
    report = dict(program.report) | {"traffic": {"compulsory": 3 << 20}}
    assert "compulsory: 3 MiB" in report_page(dataclasses.replace(program, report=report))


def test_a_program_without_runs_or_report_has_a_page(small: Files, with_host: Files) -> None:
    program = tw.Program.load(with_host.program)
    assert "The program has no map" in report_page(dataclasses.replace(program, report={}))
    steps = tuple(step for step in program.steps if not isinstance(step, RunStep))
    made = {name for step in steps for name in step.outputs}
    needed = tuple(dict.fromkeys(n for step in steps for n in step.inputs if n not in made))
    alone = dataclasses.replace(program, steps=steps, inputs=needed, report={})
    page = Tags(report_page(alone)).texts["body"]
    assert "Nothing stands out" in page and "softmax" in page


def test_names_are_made_fit_to_show() -> None:
    assert clean("a\u202eb\x00c\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert len(clean("x" * 10**6)) == 80
    assert short("abcdefgh", 5) == "ab…gh" and short("abc", 3) == "abc"
    assert join(["<", element("b", "&", title='"<')]) == '&lt;<b title="&quot;&lt;">&amp;</b>'
    assert [kib(n) for n in (0, 1023, 1536, 64 << 10, 3 << 20)] == ["0 B", "1023 B", "1.5 KiB", "64 KiB", "3 MiB"]


def test_scales_and_ticks() -> None:
    assert Scale(1, 100, 0, 10, True)(10) == 5 and Scale(0, 4, 8, 0)(1) == 6
    assert list(decades(0.05, 20)) == [0.1, 1.0, 10.0]
    assert list(ticks(57_770)) == [0, 20_000, 40_000] and list(ticks(3, 12)) == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_labels_never_cover_each_other() -> None:
    labels = Labels(400, 300)
    for i in range(40):
        labels.add(100 + i % 5 * 9, 100 + i // 5 * 7, 5, f"layer number {i}", str(i))
    drawn = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)', labels.draw())
    boxes = [(float(x) - len(n) * 3, float(y), float(x) + len(n) * 3) for x, y, n in drawn]
    assert 4 < len(boxes) < 40
    pairs = [(a, b) for a in boxes for b in boxes if a != b]
    assert not [pair for pair in pairs if abs(pair[0][1] - pair[1][1]) < 10 and pair[0][0] < pair[1][2]
                and pair[1][0] < pair[0][2]]


def test_neighbours_in_time_become_one() -> None:
    line = [(0, 10, 1), (12, 20, 1), (15, 18, 1), (20, 30, 2), (40, 50, 2)]
    assert list(merged(line, 0)) == [(0, 10, 1), (12, 20, 1), (20, 30, 2), (40, 50, 2)]
    assert list(merged(line, 2)) == [(0, 20, 1), (20, 30, 2), (40, 50, 2)]
    assert list(merged([], 5)) == []


def test_many_instructions_make_no_large_page(small: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    program, interval = tw.Program.load(small.program), re.compile(r"M\d+ \d\.\dh")
    most = len(interval.findall(report_page(program))) - 1
    monkeypatch.setattr("tilewright.report.timeline.MOST_INTERVALS", most)
    page = report_page(program)
    assert 0 < len(interval.findall(page)) <= most and "within a layer are closed" in page


# --- On the command line.


def test_the_page_lies_beside_the_program(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "net.twp"
    program.write_bytes(small.program.read_bytes())
    assert main(["report", str(program)]) == 0
    assert str(tmp_path / "net.html") in capsys.readouterr().out
    assert main(["report", str(program), "-o", str(tmp_path / "other")]) == 0
    assert (tmp_path / "net.html").read_bytes() == (tmp_path / "other").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.html", "net.twp", "other"]


def test_nothing_is_written_where_it_must_not_be(small: Files, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "net.html"
    program.write_bytes(small.program.read_bytes())
    assert "must not take the place of the program" in failed(capsys, "report", str(program))
    assert "is a folder" in failed(capsys, "report", str(program), "-o", str(tmp_path))
    assert "there is no folder" in failed(capsys, "report", str(program), "-o", str(tmp_path / "a" / "b"))
    assert "not a Tilewright program" in failed(capsys, "report", __file__, "-o", str(tmp_path / "c"))
    broken = dataclasses.replace(tw.Program.load(small.program), report={"steps": [1]})
    broken.save(tmp_path / "broken")
    assert "compile the model again" in failed(capsys, "report", str(tmp_path / "broken"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "net.html"]
    assert program.read_bytes() == small.program.read_bytes()


# --- In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    command = chromium()
    if command is None:
        if "chromium" in os.environ.get("TILEWRIGHT_TESTS_NEED", ""):
            pytest.fail("there is no Chromium, and here its tests must run: sh scripts/set-up-browser")
        pytest.skip("there is no Chromium: sudo apt-get install chromium")
    with Browser(command, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(with_host: Files, tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(report_page(tw.Program.load(with_host.program)), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    assert browser.run("document.querySelector('h1').innerText").startswith("small on nano4")
    titles = browser.run("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert titles == ["What to change to go faster", "Where the cycles go", "Roofline", "Utilization", "Timeline",
                      "Activation scratchpad", "Weight scratchpad", "Layers", "On the host"]
    # All is drawn, nothing sticks out on a laptop's screen, and text stands out from what it lies on.
    assert browser.run("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().height > 100)")
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("document.querySelector('.scroll').scrollWidth"
                       " <= document.querySelector('.scroll').clientWidth")
    light = browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    dark = browser.run("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)[0]")
    assert (light - dark > 180) if scheme == "light" else (dark - light > 180)
    assert browser.complaints == []


def test_hover_and_focus_tell_about_a_layer(browser: Browser, page: Path) -> None:
    browser.open(page)
    box = browser.run("(b => [b.x + b.width / 2, b.y + b.height / 2])("
                      "(m => (m.scrollIntoView({block: 'center'}), m))(document.querySelector('circle'))"
                      ".getBoundingClientRect())")
    tip = "(t => t.hidden ? '' : t.innerText)(document.getElementById('tip'))"
    assert browser.run(tip) == ""
    browser.move(*box)
    assert "conv1" in browser.run(tip) and "MACs a cycle" in browser.run(tip)
    assert browser.run("document.querySelectorAll('tr.on').length") == 1
    browser.move(2, 2)
    assert browser.run(tip) == "" and browser.run("document.body.classList.contains('picked')") is False
    browser.run("document.querySelectorAll('circle')[1].focus()")
    assert "conv2" in browser.run(tip)
    browser.press("Escape")
    assert browser.run(tip) == "" and browser.complaints == []


def test_the_timeline_zooms_and_moves(browser: Browser, page: Path) -> None:
    browser.open(page)
    view = "document.querySelector('.window svg').getAttribute('viewBox').split(' ').map(Number)"
    first, _, total, rows = browser.run(view)
    assert (first, rows) == (0, 4)
    browser.run("document.querySelector('[data-zoom=in]').click()")
    assert browser.run(view) == [total / 4, 0, total / 2, 4]
    browser.run("document.querySelector('.window').focus()")
    browser.press("ArrowRight")
    assert browser.run(view) == [3 * total / 8, 0, total / 2, 4]
    assert browser.run("document.querySelector('.axis').innerText").startswith(f"{3 * total / 8:,.0f}")
    browser.press("0")
    browser.press("-")
    assert browser.run(view) == [0, 0, total, 4] and browser.complaints == []


def test_a_title_sorts_the_layers(browser: Browser, page: Path) -> None:
    browser.open(page)
    column = "[...document.querySelectorAll('.layers tbody tr')].map(r => Number(r.cells[4].dataset.value))"
    cycles = browser.run(column)
    click = "[...document.querySelectorAll('.layers th')].find(h => h.innerText == 'cycles').firstChild.click()"
    browser.run(click)
    assert browser.run(column) == sorted(cycles, reverse=True) and len(set(cycles)) > 2
    browser.run(click)
    assert browser.run(column) == sorted(cycles) and browser.complaints == []


def test_an_attack_by_names_does_nothing(browser: Browser, with_host: Files, tmp_path: Path) -> None:
    path = tmp_path / "evil.html"
    path.write_text(report_page(evil(tw.Program.load(with_host.program))), encoding="utf-8")
    browser.open(path)
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.querySelector('h1').firstChild.data").strip() == clean(EVIL)
    browser.run("document.querySelector('circle').focus()")
    assert clean(EVIL)[:30] in browser.run("document.getElementById('tip').innerText")
    assert browser.run("document.querySelectorAll('img').length") == 0 and browser.complaints == []


def test_the_browser_sees_complaints(browser: Browser, tmp_path: Path) -> None:
    """The tests above can fail: what they look for would be seen."""
    path = tmp_path / "bad.html"
    path.write_text("<script>console.log('one'); missing()</script><img src='http://localhost:9/two'>")
    browser.open(path)
    text = " ".join(browser.complaints)
    assert "one" in text and "missing is not defined" in text and "localhost:9/two" in text
