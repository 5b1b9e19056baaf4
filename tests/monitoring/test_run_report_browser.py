"""The page of RunReport in a browser: drawn, read, switched and printed, from a file and without a network."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from ms_callbacks import EarlyStopping, RunReport, TableArtifact, TextArtifact, TrainCallback
from ms_callbacks.testing import ScriptedRun

api = pytest.importorskip("playwright.sync_api")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

NASTY = "<img src=x onerror=\"document.title='hacked'\"></script>$'&\u202e\u05e9\U0001f600"
LONG = "a_name_without_any_place_to_break_it_" * 9


class Shows(TrainCallback):
    """Has something of each kind to show."""

    def artifacts(self):
        shades = np.array([[np.nan, np.nan, 0.1, 1.0], [np.nan, 0.5, np.nan, 0.8]])
        wide = [f"a_column_{number}" for number in range(14)]
        return [
            TableArtifact(
                "shaded",
                "Shaded",
                ["True", "a", "b", "c"],
                [["a", "5", "0", "9"], ["b", "4", "5", "7"]],
                ["a", "b", "c"],
                "A note",
                shades,
            ),
            TableArtifact("wide", "Wide", wide, [wide, [LONG] * 14]),
            TableArtifact("images", "Images", ["Label"], [[NASTY]], images=[np.random.RandomState(0).rand(28, 28, 3)]),
            TextArtifact("text", LONG, LONG),
        ]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a run with everything that is hard to show: NaN, names, many orders of magnitude, steps between."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    nan = float("nan")
    results = [{"acc": 0.5, NASTY: 3.0}, {"acc": 0.75}, {"acc": nan}, {"acc": 0.7}, None, {"acc": 0.6}]
    losses = [[100.0, 100.0], [10.0, 10.0], [nan, 1.0], [0.1, 0.1], [0.05, 0.05], [0.02, 0.02]]
    stopping = EarlyStopping("acc", patience=4, check_finite=False, verbose=0)
    run = ScriptedRun(results, losses, steps_per_epoch=2, evaluations={3: {"acc": 0.6}})
    run.play([Shows(), stopping, RunReport(path, title=f"{NASTY} {LONG}", monitor="acc")])
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    arguments = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    ).split()
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, report):
    """Opens the report; fails where the page complains, or asks for anything but its own file."""
    contexts, said, asked = [], [], []

    def open_(width=1200, height=900, scheme="light", path=report, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.own_address = path.as_uri()
        return page

    yield open_
    addresses = {page.own_address for context in contexts for page in context.pages}
    for context in contexts:
        context.close()
    assert said == []
    assert {each for each in asked if not each.startswith("data:")} <= addresses


def test_it_is_drawn_from_a_file(opened):
    """One chart under the other, with all curves, the best value, and marks for what is not finite."""
    page = opened()
    assert page.locator("figure.panel svg").first.is_visible()
    titles = page.locator("figure.panel h3").all_inner_texts()
    assert titles == ["Loss", "Validation", "Validation", "Learning rate"]
    assert page.locator("#panel-0 .nonfinite").count() == 1
    assert page.locator("#panel-1 .best").inner_html() == "best"
    assert page.locator("#panel-0 .curve").first.get_attribute("d").count("M") >= 1
    alone = page.locator("#panel-2 .plot .mark:not(.cross)")
    assert alone.count() == 1  # a value of one epoch alone is a point
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


def test_what_a_user_has_named_is_text(opened):
    """The title, names and values are seen as they were written."""
    page = opened()
    assert page.locator("h1").inner_text() == f"{NASTY} {LONG}"
    assert page.title() != "hacked"
    assert page.locator("img").count() == 1
    assert NASTY in page.locator("#panel-2 .legend").inner_text()
    hover(page, "#panel-2", 0.5)
    assert NASTY in page.locator("#panel-2 .tip").inner_text()


def hover(page, panel, share):
    plot = page.locator(f"{panel} .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)


def test_values_are_read_by_pointing(opened):
    """The nearest point, in the chart itself; the others show where it is."""
    page = opened()
    hover(page, "#panel-0", 0.99)
    assert page.locator("#panel-0 .tip").inner_text().split("\n") == ["Epoch 6", "loss", "0.02"]
    assert page.locator(".cursor").count() == 4
    assert page.locator(".tip:visible").count() == 1
    hover(page, "#panel-0", 0.06)
    assert "Epoch 1" in page.locator("#panel-0 .tip").inner_text()
    page.mouse.move(2, 2)
    assert page.locator(".tip:visible").count() == 0


def test_values_are_read_by_touch(opened):
    """With a finger."""
    page = opened(width=390, has_touch=True)
    plot = page.locator("#panel-1 .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 16, box["y"] + 60)
    assert page.locator("#panel-1 .tip").inner_text().split("\n") == ["Epoch 6", "acc", "0.6"]


def test_values_are_read_with_the_keyboard(opened):
    """From point to point, by tab alone, and a screen reader is told; steps between epochs are points too."""
    page = opened()
    plot = page.locator("#panel-1 .plot")
    plot.focus()
    assert plot.get_attribute("role") == "slider"
    told = []
    for key in ["Home", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "End"]:
        page.keyboard.press(key)
        told.append(plot.get_attribute("aria-valuetext"))
    assert told == [
        "Epoch 1: acc 0.5",
        "Epoch 2, step 3: acc 0.6",
        "Epoch 2: acc 0.75",
        "Epoch 3: acc NaN",
        "Epoch 2: acc 0.75",
        "Epoch 6: acc 0.6",
    ]
    page.keyboard.press("Escape")
    assert page.locator(".tip:visible").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_language_is_switched(opened):
    """All of it, with the attribute that screen readers and fonts go by."""
    page = opened()
    button = page.locator("#language")
    assert button.inner_text() == "中文"
    button.click()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.locator("figure.panel h3").all_inner_texts() == ["损失", "验证", "验证", "学习率"]
    assert page.locator("#panel-1 .best").inner_html() == "最优"
    shown = page.locator("main").inner_text()
    assert "关键数字" in page.locator("#numbers").inner_text()
    assert "Curves" not in shown
    button.click()
    assert "Curves" in page.locator("main").inner_text()


def test_a_loss_over_many_orders_has_a_logarithmic_scale(opened):
    """By a button that says whether it is pressed; other charts have none."""
    page = opened()
    button = page.locator("button.log")
    assert button.count() == 1
    curve = page.locator("#panel-0 .plot .curve")
    before = curve.get_attribute("d")
    ticks = page.locator("#panel-0 text").all_text_contents()
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert curve.get_attribute("d") != before
    logarithmic = page.locator("#panel-0 text").all_text_contents()
    assert "0.1" in logarithmic
    assert "0.1" not in ticks


CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (below, colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b].map((value, index) => (value * a) / 255 + below[index] * (1 - a / 255));
  };
  const light = (rgb) => {
    const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const chain = [];
    for (let each = element; each; each = each.parentElement) chain.unshift(getComputedStyle(each).backgroundColor);
    return chain.reduce((below, colour) => over(below, colour), [255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const isShown = element.getClientRects().length && !element.closest("script,.unseen");
    if (!walker.currentNode.data.trim() || !isShown) continue;
    const style = getComputedStyle(element);
    const below = behind(element);
    const text = over(below, element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(text), light(below)].sort((one, other) => other - one);
    found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.trim().slice(0, 30), element.className.toString()]);
  }
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("switched", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_text_stands_out_in_every_theme(opened, scheme, switched):
    """By the system's wish or by the button, with a contrast of at least 4.5."""
    page = opened(scheme=scheme)
    if switched:
        page.locator("#theme").click()
    is_dark = (scheme == "dark") != switched
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == is_dark
    assert page.locator("#theme").inner_text() == ("Light" if is_dark else "Dark")
    hover(page, "#panel-0", 0.5)
    found = page.evaluate(CONTRAST)
    assert len(found) > 100
    assert [each for each in found if not each[0] >= 4.5] == []


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=pytest.mark.slow)])
def test_nothing_is_cut_off_on_a_phone(opened, language):
    """360 pixels wide: wide tables scroll within themselves, the page does not."""
    page = opened(width=360, height=740)
    if language == "zh":
        page.locator("#language").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    right = page.evaluate(
        "Math.max(...[...document.querySelectorAll('h1,h2,p,button,figure,svg,.numbers div,li,.box')]"
        ".map((each) => each.getBoundingClientRect().right))"
    )
    assert right <= 360
    page.set_viewport_size({"width": 800, "height": 740})
    page.locator("#panel-0 .plot svg[viewBox^='0 0 7']").wait_for()


def test_it_is_printed_light_and_without_buttons(opened):
    """Also from a dark screen."""
    page = opened(scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("button:visible").count() == 0
    assert [each for each in page.evaluate(CONTRAST) if each[0] < 4.5] == []
    assert page.pdf().startswith(b"%PDF")


def test_it_can_be_read_without_javascript(opened):
    """The sentence, the numbers, and the tables; charts that could not be drawn are not there, nor are switches."""
    page = opened(java_script_enabled=False)
    text = page.locator("main").inner_text()
    assert "Best acc: 0.75, in epoch 2" in text
    assert page.locator("[aria-labelledby=epochs] tbody tr").count() == 6
    assert page.locator("[aria-labelledby=epochs] table").is_visible()
    assert page.locator("figure:visible, button:visible").count() == 0


def test_tables_have_headings_and_names(opened):
    """Each column, each row, and each region that scrolls."""
    page = opened()
    assert page.evaluate("[...document.querySelectorAll('th')].every((each) => each.scope)")
    names = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(set(names)) == len(names)
    labelled = "[...document.querySelectorAll('[aria-labelledby]')]"
    asked = page.evaluate(f"{labelled}.map((each) => each.getAttribute('aria-labelledby'))")
    assert {each for words in asked for each in words.split()} <= set(names)
    assert page.locator("#panel-2 .plot").get_attribute("aria-labelledby") == "caption-2 legend-2"


def test_a_thousand_epochs_are_drawn_at_once(opened, tmp_path):
    """As one path each, without a mark for every point."""
    path = tmp_path / "long.html"
    losses = [[2 * math.exp(-epoch / 200)] for epoch in range(1000)]
    ScriptedRun([{"acc": 1 - loss[0] / 3} for loss in losses], losses).play([RunReport(path)])
    page = opened(path=path)
    assert page.locator("#panel-0 .plot svg *").count() < 60
    hover(page, "#panel-0", 0.999)
    assert "Epoch 1000" in page.locator("#panel-0 .tip").inner_text()


def test_numbers_of_any_size_are_drawn(opened, tmp_path):
    """The range of the largest is infinite; `opened` fails where a path has NaN."""
    path = tmp_path / "report.html"
    results = [{"acc": (-1) ** epoch * 1.7e308, "eval_loss": 5e-324} for epoch in range(4)]
    ScriptedRun(results, [[10.0 ** (-100 * epoch)] for epoch in range(4)]).play([RunReport(path)])
    page = opened(path=path)
    page.locator("#panel-0 .log").click()
    assert page.locator("#panel-0 .plot .curve").first.get_attribute("d").count("L") >= 2
