"""The site: what is made of the notebooks, and, in a browser, whether its pages are right.

The pages need the packages that `make test-browser` installs, and the system's Chromium.
"""

import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import build_site
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
WANTED = ("sphinx", "myst_nb", "axe_playwright_python")
MISSING = [name for name in WANTED if importlib.util.find_spec(name) is None]
WHY = f"{', '.join(MISSING)} not installed: make test-browser installs what it needs"
needs_sphinx = pytest.mark.skipif(bool(MISSING), reason=WHY)
extra = pytest.mark.extra
LESSONS = sorted(p.stem for p in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


# --- the sources of the pages ------------------------------------------------------------------


def test_the_navigation_has_every_lesson_in_its_part():
    parts = build_site.parts((ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(name for names in parts.values() for name in names) == LESSONS
    for part, names in parts.items():
        assert {name[0] for name in names} == {part[0]}


def test_a_caption_becomes_the_alternative_text():
    code, caption = nbformat.v4.new_code_cell("plot()"), "*The `sums` of $s_x$.* More text."
    cells = [code, nbformat.v4.new_markdown_cell(caption), nbformat.v4.new_code_cell("1")]
    shown = build_site.shown(nbformat.v4.new_notebook(cells=cells), {})
    alts = [c.metadata["mystnb"]["image"]["alt"] for c in shown.cells if c.cell_type == "code"]
    assert alts[0] == "The sums of s_x." and "figure" in alts[1]


def test_links_stand_where_they_are_looked_for():
    texts = ["# 21 · Steps\n\nWhy.", "## Exercises\n\n### 21.1 One", "## Recap"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(t) for t in texts])
    shown = build_site.shown(notebook, {"## Exercises": "[Solutions](x.ipynb)"})
    assert [cell.source for cell in shown.cells] == [
        texts[0],
        "## Exercises\n\n[Solutions](x.ipynb)\n\n### 21.1 One",
        texts[2],
    ]


def test_links_to_files_that_are_no_pages_become_text(tmp_path):
    (tmp_path / "a.md").write_text("x")
    text = "[a](a.md#b), [code](../helpers/zoo.py), [web](https://example.org), [none](none.md)"
    found = build_site.local_links(text, tmp_path, tmp_path / "index.md")
    assert found == "[a](a.md#b), code, [web](https://example.org), none"


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("the only copy")
    assert build_site.main(str(tmp_path)) == 1
    assert "holds other things" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


# --- the pages ---------------------------------------------------------------------------------


class Links(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found.get("id"), found.get("name")}
        self.targets += [found[key] for key in ("href", "src") if found.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    assert build_site.main(str(out)) == 0
    return out


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Links]:
    found = sorted(p for p in site.rglob("*.html") if "_static" not in p.parts)
    return {str(p.relative_to(site)): Links(p.read_text(encoding="utf-8")) for p in found}


@extra
@needs_sphinx
def test_every_notebook_is_a_page_and_the_site_is_small(site, pages):
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb"):
        assert str(path.relative_to(ROOT).with_suffix(".html")) in pages
    assert sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) < 60e6


@extra
@needs_sphinx
def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site, pages):
    broken = []
    for name, page in pages.items():
        for target in page.targets:
            link = urlsplit(target)
            if link.scheme or target.startswith("//"):
                if link.scheme not in ("https", "data", "mailto"):
                    broken.append((name, target))
                continue
            path = (site / name).parent / unquote(link.path) if link.path else site / name
            inside = str(path.resolve().relative_to(site.resolve()))
            anchors = pages[inside].anchors if inside in pages else set()
            if not path.is_file() or (link.fragment and anchors and link.fragment not in anchors):
                broken.append((name, target))
    assert not broken, broken[:10]
    loaded = r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(?:https?:)?//"
    for name in pages:
        assert not re.search(loaded, (site / name).read_text(encoding="utf-8")), name


FAULTS = """() => ({
    formulas: document.querySelectorAll("mjx-container").length,
    broken: document.querySelectorAll("mjx-merror, .MathJax_Error").length,
    silent: [...document.images].filter(i => !i.alt).length,
    empty: [...document.images].filter(i => i.complete && !i.naturalWidth).length,
    wide: document.documentElement.scrollWidth - window.innerWidth,
})"""


def visit(browser, site: Path, name: str, width: int, scheme: str = "light"):
    """(the page, what it asked for from elsewhere and complained about)."""
    page, said = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    local = ("file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else said.append(r.url))
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((site / name).as_uri())
    page.wait_for_function("!window.MathJax || MathJax.startup?.promise")
    page.evaluate("window.MathJax && MathJax.startup.promise")
    return page, said


@extra
@needs_sphinx
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_whole(site, pages, browser, width):
    formulas = 0
    for name in pages if width > 1000 else [name for name in pages if "solutions" not in name]:
        page, said = visit(browser, site, name, width)
        found = page.evaluate(FAULTS)
        formulas += found.pop("formulas")
        assert not said and not any(v > 0 for v in found.values()), (name, said, found)
        page.close()
    assert formulas > 1000


@extra
@needs_sphinx
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "notebooks/21_quantization_formulas", "docs/glossary"])
def test_no_serious_barrier(site, browser, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, _ = visit(browser, site, f"{name}.html", 1280, scheme)
    found = Axe().run(page).response["violations"]
    serious = {
        f"{v['id']}: {node['html'][:120]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    }
    page.close()
    assert not serious, sorted(serious)[:8]


@extra
@needs_sphinx
def test_folded_cells_open_and_search_finds_a_term(site, browser):
    page, _ = visit(browser, site, "notebooks/21_quantization_formulas.html", 1280)
    folded = page.locator("details.hide").first
    assert not folded.evaluate("d => d.open")
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.evaluate("d => d.open")
    page.close()
    page, _ = visit(browser, site, "search.html", 1280)
    page.goto((site / "search.html").as_uri() + "?q=crest")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    hits = page.locator("#search-results li a").all_inner_texts()
    page.close()
    assert any("Quantization formulas" in hit for hit in hits), hits
