"""The page by axe-core's rules, in light and dark, on a desk and on a phone."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from web.test_page import PHONE

AXE = "axe-core@4"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, installed by npm into a cache of its own."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm to install axe-core with")
    cache = Path(tempfile.gettempdir()) / "fastsam-batch-tests-axe"
    source = cache / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        cache.mkdir(exist_ok=True)
        command = [npm, "install", "--prefix", str(cache), "--ignore-scripts", "--no-audit", "--no-fund", AXE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm cannot install {AXE}: {done.stderr.strip().splitlines()[-1:]}")
    return source.read_text()


def violations(page, axe: str, scheme: str = "light") -> list[str]:
    page.emulate_media(color_scheme=scheme)
    page.evaluate(axe)  # not as a script of the page, which its policy forbids
    rules = {"type": "tag", "values": RULES} if scheme == "light" else {"type": "rule", "values": ["color-contrast"]}
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)["violations"]
    return [
        f"{scheme} {each['impact']} {each['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})"
        for each in found
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_no_view_breaks_a_rule(open_page, axe: str, options) -> None:
    page = open_page("/", reduced_motion="reduce", **options)
    page.locator(".photographs .open").nth(5).wait_for()
    schemes = ("light",) if options else ("light", "dark")
    found = [line for scheme in schemes for line in violations(page, axe, scheme)]
    page.get_by_role("searchbox").fill("a cup")
    page.keyboard.press("Enter")
    page.locator(".hits .pick").first.click()
    page.locator("#filters summary").click()
    found += [line for scheme in schemes for line in violations(page, axe, scheme)]
    page.locator(".hits .open").first.click()
    page.locator(".stage .edge").first.wait_for()
    page.get_by_label("Select by words").fill("a helmet")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="JSON").wait_for()
    found += [line for scheme in schemes for line in violations(page, axe, scheme)]
    page.locator("#help").click()
    found += violations(page, axe)
    assert not found
