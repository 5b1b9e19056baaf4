"""Names of files made of values: what can be written in braces, and an error that shows a template that works."""

from __future__ import annotations

import ast
import os
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_callbacks.core.path_template import PathTemplate


def suggested(text, folder="folder/"):
    """The template that the error about another shows."""
    with pytest.raises(ValueError, match=r"^T: filepath .*; write '.*', for example$") as caught:
        PathTemplate("T", folder + text)
    return ast.literal_eval(re.search(r"; write ('.*'), for example$", str(caught.value))[1])


@pytest.mark.parametrize(
    ("text", "works"),
    [
        ("{val/loss}.ckpt", "{eval_loss}.ckpt"),
        ("{val/loss:.3f}.ckpt", "{eval_loss:.3f}.ckpt"),
        ("{epoch:02d}-{eval/acc:.3f}.ckpt", "{epoch:02d}-{acc:.3f}.ckpt"),
        ("{valid/acc}-{test/f-score}.ckpt", "{acc}-{f-score}.ckpt"),
        ("{train/loss}.ckpt", "{loss}.ckpt"),
        ("{det/precision}.ckpt", "{det_precision}.ckpt"),
        ("{a/b/c}.ckpt", "{a_b_c}.ckpt"),
        ("{epoch:/>9}.ckpt", "{epoch:02d}.ckpt"),
        ("{acc.real}.ckpt", "{acc}.ckpt"),
        ("{acc[0]:.1f}.ckpt", "{acc:.1f}.ckpt"),
        ("{acc!r}.ckpt", "{acc}.ckpt"),
        ("{acc:{epoch}}.ckpt", "{acc:.4f}.ckpt"),
        ("{}.ckpt", "{epoch}.ckpt"),
        ("{0}.ckpt", "{epoch}.ckpt"),
        ("{acc:d}.ckpt", "{acc:.4f}.ckpt"),
        ("{epoch:s}.ckpt", "{epoch:02d}.ckpt"),
        ("{{x}}-{acc!s}.ckpt", "{{x}}-{acc}.ckpt"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_shows_what_works(text, works):
    """What was meant, where it can be told."""
    assert suggested(text) == f"folder/{works}"
    PathTemplate("T", f"folder/{works}")


@pytest.mark.parametrize("text", ["{epoch.ckpt", "epoch}.ckpt", "{", "{a{b}.ckpt"])
def test_where_nothing_can_be_told_any_that_works_is_shown(text):
    """Braces that do not match."""
    assert PathTemplate("T", suggested(text)).fields


PIECES = [
    "{",
    "}",
    "{{",
    "}}",
    "/",
    ".",
    "[",
    "]",
    ":",
    "!r",
    "0",
    "val/",
    "acc",
    "epoch",
    ".2f",
    "02d",
    "{val/loss}",
    "é",
]


@settings(deadline=None, max_examples=1000)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(string.printable, max_size=20)))
def test_every_template_that_is_shown_works(text):
    """Whatever was written."""
    try:
        PathTemplate("T", text)
    except ValueError as error:
        shown = re.search(r"; write ('.*'|\".*\"), for example$", str(error), re.DOTALL)
        if shown:
            template = PathTemplate("T", ast.literal_eval(shown[1]))
            template.path({field: 1 if field in ("epoch", "step") else 0.5 for field in template.fields})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("f-score:.3f", {"f-score": 0.5}),
        ("top 5:.3f", {"top 5": 0.5}),
        ("iou@0.5:.3f", {"iou@0.5": 0.5}),
        ("ap@0.5_0.95:.3f", {"ap@0.5:0.95": 0.5}),
        ("val_acc:.3f", {"eval/acc": 0.5, "val_acc": 0.5}),
        ("acc:.3f", {"eval/acc": 0.5}),
        ("eval_acc:.3f", {"eval/acc": 0.5}),
        ("准确率:.3f", {"准确率": 0.5}),
    ],
)
def test_a_field_may_be_the_name_of_any_metric(field, values):
    """Such as str.format would take for something else; what cannot stand in braces is spelled with `_`."""
    assert PathTemplate("T", f"folder/x-{{{field}}}.ckpt").path(values) == os.path.abspath("folder/x-0.500.ckpt")


def test_an_unknown_field_is_told_with_names_that_can_be_typed():
    """As they can stand in braces, and only what is one of them misspelt where others may come."""
    template = PathTemplate("T", "{Seg_mIoU}.ckpt")
    with pytest.raises(ValueError, match=r"this run has 'epoch', 'step', 'loss', 'seg_miou'; did you mean 'seg_miou'"):
        template.check(["seg/miou"])
    PathTemplate("T", "{f-score}.ckpt").check(["det"], more_may_come=True)
    with pytest.raises(ValueError, match="did you mean 'det'"):
        PathTemplate("T", "{DET}.ckpt").check(["det"], more_may_come=True)
