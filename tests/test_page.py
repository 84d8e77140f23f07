"""What holds for every page: nothing of a storyboard is markup, and nothing but the page's own script runs."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from pathlib import Path

import pytest
from markupsafe import Markup

from klingflow.output import page

TEMPLATES = Path(page.__file__).with_name("templates")
PAGES = sorted(path.name.removesuffix(".html.j2") for path in TEMPLATES.glob("*.html.j2"))


def hash_of(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_from_elsewhere() -> None:
    text = page.render("base", title="Harbour")
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["style-src"] == hash_of(re.findall(r"<style>(.*?)</style>", text, re.S)[0])
    assert allowed["script-src"] == hash_of(re.findall(r"<script>(.*?)</script>", text, re.S)[0])
    assert "connect-src" not in allowed
    assert not re.search(r"http|unsafe|\*", policy)


def test_a_served_page_may_ask_its_own_server_and_no_other() -> None:
    assert "connect-src &#39;self&#39;;" in page.render("base", title="", connect=True)


def test_a_title_is_text_and_not_markup() -> None:
    text = page.render("base", title="</title><script>alert(1)</script>")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_no_page_shows_what_looks_like_a_secret_and_a_picture_in_it_is_left_alone() -> None:
    assert "abcdefgh12345678" not in page.render("base", title="Authorization: Bearer abcdefgh12345678")
    picture = Markup("data:image/jpeg;base64,whsec_")
    assert f"<h1>{picture}</h1>" in page.render("base", title=picture)


@pytest.mark.parametrize("name", PAGES)
def test_no_template_holds_what_the_policy_would_refuse(name: str) -> None:
    text = (TEMPLATES / f"{name}.html.j2").read_text("utf-8")
    assert re.findall(r"\sstyle=|\son[a-z]+=|https?://|\|\s*safe\b|autoescape", text) == []


@pytest.mark.parametrize("file", sorted(path.name for path in TEMPLATES.iterdir()))
def test_style_and_script_ask_for_nothing(file: str) -> None:
    text = (TEMPLATES / file).read_text("utf-8")
    assert re.findall(r"@import|https?://(?!www\.w3\.org/)|\burl\(|innerHTML|\beval\(|new Function", text) == []
    assert "</script" not in text or file.endswith(".j2")
