"""The shell: it opens, by its link alone, and everything is reached by keys."""

from __future__ import annotations


def test_it_opens_and_is_accessible(page, axe):
    assert page.title() == "Runs · likeness studio"
    assert axe(page) == []
