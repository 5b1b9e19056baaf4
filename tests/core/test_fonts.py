"""Names in any script, in fonts that have them, and no warnings where none has."""

from __future__ import annotations

import io
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager

from ms_callbacks import ConfusionMatrix
from ms_callbacks.core import fonts
from ms_callbacks.core.plotting import contact_sheet, figure, save


def make_font(path, family, characters):
    """A font that has a square for each of a few characters."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"u{ord(each):04X}" for each in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(each): name for each, name in zip(characters, names[1:])})
    font.setupGlyf({name: pen.glyph() for name in names})
    font.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    font.setupPost()
    font.save(str(path))
    return str(path)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts fonts where matplotlib looks, with no others there besides its own."""
    paths = []
    own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *args, **named: list(paths))
    forget = [fonts.families_with.cache_clear, font_manager.fontManager._findfont_cached.cache_clear]
    for each in forget:
        each()
    yield lambda family, characters: paths.append(make_font(tmp_path / f"{family}.ttf", family, characters))
    for each in forget:
        each()


def titled(*titles):
    drawn = figure(4, 2)
    for axes, title in zip(drawn.subplots(1, len(titles), squeeze=False).flat, titles):
        axes.set_title(title)
    return drawn


@pytest.mark.parametrize(
    ("present", "titles", "families"),
    [
        ({"Some CJK": "猫狗"}, ["猫", "dog 狗"], [["Some CJK"], ["Some CJK"]]),
        ({"Other": "猫狗", "Some CJK": "猫狗"}, ["猫"], [["Some CJK"]]),  # the likely one
        ({"One CJK": "猫", "Other": "ß狗"}, ["猫狗", "cat", "Größe"], [["One CJK", "Other"], [], []]),
        ({"Some Sans": "कख"}, ["कख"], [["Some Sans"]]),
        ({}, ["Ελληνικά", "Кошка", "naïve café\n≤ µ"], [[], [], []]),  # which matplotlib's own font has
    ],
)
def test_a_font_that_has_the_characters_is_chosen(install, capsys, present, titles, families):
    """For each text, among those that are installed, one beside the other where no font has all; nothing is said."""
    for family, characters in present.items():
        install(family, characters)
    before = dict(matplotlib.rcParams)
    drawn = titled(*titles)
    fonts.choose_fonts(drawn)
    found = [axes.title.get_fontfamily() for axes in drawn.axes]
    assert found == [[*matplotlib.rcParams["font.family"], *each] for each in families]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn.savefig(io.BytesIO(), format="png")
    assert capsys.readouterr().out == ""
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("titles", "said"),
    [
        (["猫", "狗"], ["no font with 狗猫,", "install one, such as Noto Sans CJK (fonts-noto-cjk)"]),
        (["ねこ"], ["no font with こね,", "Noto Sans CJK"]),
        (["कख"], ["no font with कख,", "such as Noto Sans\n"]),
        (["".join(map(chr, range(0x4E00, 0x4E40)))], ["no font with 一丁丂七丄丅丆万丈三上下丌不与丏丐丑丒专...,"]),
    ],
)
def test_where_no_font_has_them_a_line_says_so_once(install, capsys, caplog, tmp_path, titles, said):
    """And matplotlib does not warn of each glyph, in a first picture nor in a second, nor of fonts that were tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("one.png", "two.png"):
            save(titled(*titles), str(tmp_path / name))
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert not [record for record in caplog.records if record.name.startswith("matplotlib")]
    printed = capsys.readouterr().out
    assert all(each in printed for each in said)
    assert printed.count("\n") == 1


def test_class_names_in_chinese(install, capsys, tmp_path):
    """On the axes of a confusion matrix, and under the images of a contact sheet."""
    install("Some CJK", "猫狗马")
    confusion = ConfusionMatrix(["猫", "狗", "马"], picture=tmp_path / "confusion.png", verbose=0)
    confusion.begin_evaluation()
    confusion.see_batch(np.eye(3), np.arange(3), None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion.on_eval_end(None)
        save(contact_sheet([np.zeros((4, 4, 3))], ["label 猫\nsaid 狗"]), str(tmp_path / "sheet.png"))
    assert capsys.readouterr().out == ""
    assert len(list(tmp_path.glob("*.png"))) == 2
