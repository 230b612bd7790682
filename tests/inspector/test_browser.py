"""The inspector in a real browser, over the real program."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.browser import Watched, document, inspected
from tests.support.gateway import Gateway

TOPIC = "sms.status"
HOSTILE = (
    b'<response><state id_sms="&lt;img src=x onerror=window.pwned=1>" time="">read</state>'
    b'<state id_sms="1" time="" a="&lt;script>window.pwned=1&lt;/script>" '
    b'b="javascript:window.pwned=1" c="\' autofocus onfocus=window.pwned=1 x=\'">read</state>'
    b'<state id_sms="&#x202e;gnp.exe" time="">read</state>'
    b"<script>window.pwned=1</script><svg onload='window.pwned=1'/>"
    b"<style>body{display:none}</style><a href='javascript:window.pwned=1'>x</a></response>"
)
NO_TEXT = b"<script>window.pwned=1</script>\xff\xfe\x00\x1b[31m\xe2\x80\xae</pre></td><plaintext>"


@dataclass(frozen=True, slots=True)
class Scene:
    """A running gateway, and where its inspector is."""

    gateway: Gateway
    url: str


@pytest.fixture(scope="module")
def broker(new_embedded: type[EmbeddedBroker]) -> Iterator[EmbeddedBroker]:
    with new_embedded(TOPIC, f"{TOPIC}.rejected") as broker:
        yield broker


@pytest.fixture
def scene(broker: EmbeddedBroker) -> Iterator[Scene]:
    with Gateway(inspected(broker, TOPIC)) as gateway:
        yield Scene(gateway, gateway.inspector_url)


@pytest.fixture
def watched(chromium: Browser) -> Iterator[Watched]:
    watched = Watched(chromium)
    yield watched
    watched.close()


def numbers(watched: Watched) -> list[str]:
    return watched.page.locator("#rows .number").all_inner_texts()


def test_documents_arrive_live(watched: Watched, scene: Scene) -> None:
    page = watched.page
    scene.gateway.post(document(1))
    page.goto(scene.url)
    expect(page.locator("#live")).to_have_text("live")
    scene.gateway.post(document(3234, status="read"))
    scene.gateway.post(b"<response><state>")
    expect(page.locator("#rows tr")).to_have_count(3)
    assert numbers(watched) == ["#3", "#2", "#1"]
    expect(page.locator("#rows tr").nth(1)).to_contain_text("3234")
    expect(page.locator(".tile.published dd")).to_have_text("2")
    expect(page.locator(".tile.unreadable dd")).to_have_text("1")
    page.get_by_role("button", name="Pause").click()
    scene.gateway.post(document(4))
    expect(page.locator("#live")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#rows tr").first).to_contain_text("#4")  # what came meanwhile
    watched.check()


def test_a_filtered_page_stays_filtered_live(watched: Watched, scene: Scene) -> None:
    page = watched.page
    scene.gateway.post(document(3234))
    scene.gateway.post(document(99))
    page.goto(scene.url)
    page.get_by_label("id").fill("3234")
    page.get_by_label("outcome").select_option("published")
    page.get_by_role("button", name="Filter").click()
    assert numbers(watched) == ["#1"]
    expect(page.locator("#live")).to_have_text("live")
    scene.gateway.post(document(99, status="read"))
    scene.gateway.post(document(3234, status="read"))
    expect(page.locator("#rows tr")).to_have_count(2)
    assert numbers(watched) == ["#4", "#1"]
    page.get_by_role("link", name="clear").click()
    expect(page.locator("#rows tr")).to_have_count(4)
    watched.check()


def test_a_document_shows_its_events_and_its_retry(watched: Watched, scene: Scene) -> None:
    """With the keyboard alone: from the table to the document, to the one that it repeats."""
    page = watched.page
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    scene.gateway.post(document(3234, ""))
    scene.gateway.post(document(3234, ""))
    page.goto(scene.url)
    page.get_by_role("link", name="Document 2").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("200 OK")
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".card").first).to_contain_text("com.example.messaging.status.deliver")
    expect(page.locator(".card.rejected")).to_contain_text("missing_id")
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -i")
    assert 'id_sms="3234"' in copied
    page.locator(".notice.retry a").click()
    expect(page.locator("#body")).to_be_visible()
    assert page.url.endswith("/documents/1")
    expect(page.locator(".card").first).to_contain_text(re.compile(r"partition \d+ offset \d+"))
    watched.check()


def test_hostile_content_stays_inert(watched: Watched, scene: Scene) -> None:
    """Live and loaded, in the table and in the document: nothing runs, nothing is fetched."""
    page = watched.page
    page.goto(scene.url)
    expect(page.locator("#live")).to_have_text("live")
    bodies = [HOSTILE, NO_TEXT, b"<response>" + HOSTILE[:-11] + b" " * 4_000_000]
    for body in bodies:
        assert scene.gateway.post(body).status in (200, 400)
    expect(page.locator("#rows tr")).to_have_count(len(bodies))
    for path in ("", "documents/1", "documents/2", "documents/3"):
        page.goto(scene.url + path)
        expect(page.locator("main")).to_be_visible()
        assert page.evaluate("window.pwned") is None
        tags = "script:not([src]), svg, iframe, plaintext, main img, main a[href^='javascript']"
        assert page.locator(tags).count() == 0
        assert page.locator("[onerror], [onload], [onfocus], [autofocus]").count() == 0
        assert "\u202e" not in page.content()
        watched.check()
    expect(page.locator("main")).to_contain_text("of it kept")  # the large one says that it was cut
    page.goto(scene.url + "documents/2")
    expect(page.locator("main")).to_contain_text("\\xff")
    expect(page.locator("main")).to_contain_text("\\u202e")
    page.goto(scene.url + "?id=%22%3E%3Cscript%3Ewindow.pwned=1%3C/script%3E")
    assert page.evaluate("window.pwned") is None
    assert {re.sub(r"^(http://[^/]+/).*", r"\1", url) for url in watched.requested} == {scene.url}
    watched.check()


def test_an_inline_script_would_not_run_even_if_it_got_in(watched: Watched, scene: Scene) -> None:
    """The second wall: the policy, were the first, the escaping, ever to break."""
    page = watched.page
    page.goto(scene.url)
    page.evaluate(
        """() => {
          const inert = document.createElement("div");
          inert.innerHTML = "<img src=x: onerror='window.pwned=1'>";
          document.body.append(inert);
          const script = document.createElement("script");
          script.textContent = "window.pwned=1";
          document.body.append(script);
        }"""
    )
    page.wait_for_function("window.violations.length >= 2")
    assert page.evaluate("window.pwned") is None


def test_it_works_without_a_script(chromium: Browser, scene: Scene) -> None:
    scene.gateway.post(document(3234))
    scene.gateway.post(document(99))
    watched = Watched(chromium, java_script_enabled=False)
    page = watched.page
    page.goto(scene.url)
    assert numbers(watched) == ["#2", "#1"]
    assert not page.get_by_role("button", name="Pause").is_visible()
    page.get_by_label("id").fill("3234")
    page.get_by_role("button", name="Filter").click()
    assert numbers(watched) == ["#1"]
    page.get_by_role("link", name="Document 1").click()
    expect(page.locator("#command")).to_contain_text("curl -i")
    assert not page.get_by_role("button", name="Copy as curl").is_visible()
    watched.check()
    watched.close()


def test_no_secret_is_in_any_page_and_the_command_asks_for_it(
    watched: Watched, scene: Scene
) -> None:
    page = watched.page
    scene.gateway.post(document(1), path="/brand?token=a-s3cret")
    scene.gateway.post(document(1), path="/brand?token=guessed")
    page.goto(scene.url)
    page.click(".refused summary")
    expect(page.locator(".refused")).to_contain_text("wrong credentials")
    assert not {"a-s3cret", "guessed"} & set(re.findall(r"[\w-]+", page.content()))
    page.goto(scene.url + "documents/1")
    expect(page.locator("#command")).to_contain_text("${TOKEN:?")
    assert "a-s3cret" not in page.content()
    watched.check()


def test_a_drain_ends_open_pages_and_the_gateway_in_time(watched: Watched, scene: Scene) -> None:
    page = watched.page
    page.goto(scene.url)
    expect(page.locator("#live")).to_have_text("live")
    assert scene.gateway.terminate(10) == 0
    expect(page.locator("#live")).to_have_text("not connected")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_in_both_schemes(chromium: Browser, scene: Scene, scheme: str) -> None:
    """Every text has the contrast that WCAG 2 asks for (AA, 4.5)."""
    for body in (document(1, ""), b"<response>", document(1, "")):
        scene.gateway.post(body)
    watched = Watched(chromium, color_scheme=scheme)
    for path in ("", "documents/1", "documents/2"):
        watched.page.goto(scene.url + path)
        assert watched.page.evaluate(FAINT) == []
    watched.close()


FAINT = """
() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {rgb: [r, g, b], a};
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.a > 0) return colour.rgb;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const a = light(parse(getComputedStyle(element).color).rgb), b = light(ground(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${element.className} ${element.textContent.trim()} ${ratio}`);
  }
  return faint;
}
"""
