"""Every request has a name of its own, or the proxy's."""

import pytest

from bridge.gateway.request_ids import RequestIds


def test_requests_without_an_id_are_told_apart_within_and_between_processes() -> None:
    one, another = RequestIds(), RequestIds()
    ids = [source.of(None) for source in (one, another) for _ in range(100)]
    assert len(set(ids)) == 200


def test_a_proxy_s_id_is_kept() -> None:
    given = b"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
    assert RequestIds().of(given) == given.decode()


@pytest.mark.parametrize("given", [b"", b'a"b', b"a b", b"x" * 129, b"caf\xc3\xa9", b"a\nb"])
def test_an_id_that_does_not_belong_in_a_log_is_not_taken(given: bytes) -> None:
    named = RequestIds().of(given)
    assert named
    assert given.decode("latin-1") != named
