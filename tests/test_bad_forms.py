"""Bad input in made-up forms: no traceback, no wrong exit status, no flood of lines.

`benchmarks/bad_inputs.py` tries thousands; these are a few of each family.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_forms import Form, forms, make_base, run_form, run_here

EACH = 6
FAMILIES = 12
FORMS = list(forms(4, EACH * FAMILIES))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "base"
    make_base(folder)
    return folder


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.family)
def test_a_bad_form_is_answered_rightly(base: Path, tmp_path: Path, form: Form) -> None:
    ended = run_form(form, base, tmp_path / "project 项目")
    assert ended.fault is None, f"{form.what}: {ended.fault}"


def test_a_process_answers_as_this_process_does(base: Path, tmp_path: Path) -> None:
    """What is tried in this process is what a person gets."""
    for form in FORMS[:FAMILIES]:
        here, apart = (
            run_form(form, base, tmp_path / "p", as_process=process) for process in (False, True)
        )
        assert (here.status, apart.fault) == (apart.status, None), form.what


def test_the_forms_are_the_same_for_the_same_seed() -> None:
    assert [form.what for form in forms(4, 40)] == [form.what for form in FORMS[:40]]
    assert [form.what for form in forms(5, 40)] != [form.what for form in FORMS[:40]]
    assert len({form.family for form in FORMS}) == FAMILIES


def test_what_is_not_damaged_is_fine(base: Path, tmp_path: Path) -> None:
    """Else every form would be refused for a reason of its own making."""
    fine = Form("none", "nothing", ("plan", "experiments/x.yaml"), frozenset({0}))
    assert run_form(fine, base, tmp_path / "p").fault is None


@pytest.mark.parametrize(
    ("right", "words", "says"),
    [
        ({0}, ("plan", "nowhere.yaml"), "exit status 2, right is [0]"),
        ({2}, ("plan", "experiments/x.yaml"), "exit status 0, right is [2]"),
    ],
)
def test_a_wrong_status_is_noticed(
    base: Path, tmp_path: Path, right: set[int], words: tuple[str, ...], says: str
) -> None:
    """The harness can fail."""
    ended = run_form(Form("f", "w", words, frozenset(right)), base, tmp_path / "p")
    assert ended.fault is not None
    assert says in ended.fault


def test_a_traceback_is_noticed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of a kind that the command line would not meet otherwise."""

    def crash(_words: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bad_forms.main", crash)
    status, trace, _ = run_here(("plan",), base)
    assert status is None
    assert "ZeroDivisionError: a bug" in trace
    fault = run_form(Form("f", "w", ("plan",), frozenset({2})), base, tmp_path / "p").fault
    assert fault is not None
    assert fault.startswith("traceback")
