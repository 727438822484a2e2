"The bridge carries what JupyterLab would: proven with the smallest widget there is."

import pytest
from playwright.sync_api import Error, expect

from .bridge import Bridge
from .tiny import Tiny


def test_a_trait_goes_both_ways(bridge: Bridge) -> None:
    tiny = Tiny(count=3, bytes=b"\x07")
    place = bridge.show(tiny)
    expect(place.locator("output")).to_have_text("3,7")
    tiny.count, tiny.bytes = 5, b"\x00\xff"
    expect(place.locator("output")).to_have_text("5,0,255")
    place.locator("button").click()
    bridge.wait(lambda: tiny.count == 6)
    assert bridge.received == [dict(method="update", state=dict(count=6), buffer_paths=[])]


def test_bytes_of_the_page_reach_a_trait(bridge: Bridge) -> None:
    tiny = Tiny()
    bridge.show(tiny)
    change = "model.set({bytes: new Uint8Array([9, 8]), count: 1}); model.save();"
    bridge.page.evaluate(f"id => {{ const model = models.get(id); {change} }}", tiny.model_id)
    bridge.pump()
    assert (bytes(tiny.bytes), tiny.count) == (b"\x09\x08", 1)


def test_updates_are_merged_while_one_is_on_its_way(bridge: Bridge) -> None:
    tiny = Tiny()
    place = bridge.show(tiny)
    for _ in range(5):
        place.locator("button").click()
    bridge.wait(lambda: tiny.count == 5)
    assert [data["state"] for data in bridge.received] == [dict(count=1), dict(count=5)]


def test_a_message_with_bytes_is_answered_from_another_thread(bridge: Bridge) -> None:
    tiny = Tiny()
    place = bridge.show(tiny)
    bridge.page.keyboard.press("k")
    bridge.wait("document.querySelector('output').dataset.heard")
    assert tiny.heard == [("k", b"\x01\x02\x03")]
    assert place.locator("output").get_attribute("data-heard") == "k,3,2,1"
    assert bridge.sent[-1] == dict(method="custom", content=dict(word="k"))


def test_widgets_are_kept_apart(bridge: Bridge) -> None:
    one, other = Tiny(count=1), Tiny(count=10)
    places = [bridge.show(one), bridge.show(other)]
    places[1].locator("button").click()
    bridge.wait(lambda: other.count == 11)
    assert one.count == 1
    expect(places[0].locator("output")).to_have_text("1")
    expect(places[1].locator("output")).to_have_text("11")


def test_a_reload_builds_the_page_from_what_python_has(bridge: Bridge) -> None:
    tiny = Tiny()
    place = bridge.show(tiny)
    place.locator("button").click()

    def meanwhile() -> None:
        assert bridge.page.locator("output").count() == 0
        tiny.count, tiny.bytes = 41, b"\x05"

    bridge.reload(meanwhile)
    expect(place.locator("output")).to_have_text("41,5")
    place.locator("button").click()
    bridge.wait(lambda: tiny.count == 42)


def test_an_error_in_render_is_raised_with_its_text(bridge: Bridge) -> None:
    with pytest.raises(Error, match="the lens is broken"):
        bridge.show(Tiny(broken=True))


def test_an_error_of_a_listener_is_an_error_of_the_page(
    bridge: Bridge, page_errors: list[str]
) -> None:
    tiny = Tiny()
    bridge.show(tiny)
    tiny.send(dict(word="?"), [b"fine"])
    tiny.send(None)
    bridge.page.wait_for_timeout(50)
    assert len(page_errors) == 1 and "word" in page_errors.pop()


def test_an_exception_of_a_callback_is_kept(bridge: Bridge) -> None:
    tiny = Tiny()
    bridge.show(tiny)
    bridge.page.keyboard.press("!")
    bridge.wait(lambda: bridge.failures)
    assert str(bridge.failures.pop()) == "no such key"


def test_forgotten_listeners_are_counted(bridge: Bridge) -> None:
    tidy, careless = Tiny(), Tiny(careless=True)
    for tiny in (tidy, careless):
        bridge.show(tiny)
    assert bridge.listeners() == ["keydown", "keydown"]
    assert bridge.hide(tidy) == 0
    assert bridge.hide(careless) == 1
    assert bridge.listeners() == ["keydown"]


def test_a_closed_widget_leaves_the_page(bridge: Bridge) -> None:
    tiny = Tiny()
    place = bridge.show(tiny)
    tiny.close()
    expect(place).to_have_count(0)
