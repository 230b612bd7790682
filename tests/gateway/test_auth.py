import hmac
from base64 import b64encode
from collections.abc import Callable, Sequence
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from bridge.config.settings import Auth
from bridge.gateway.auth import Authenticator


def authenticator(
    *, tokens: Sequence[str] = (), basic: Sequence[tuple[str, str]] = ()
) -> Authenticator:
    users = [{"username": name, "password": password} for name, password in basic]
    return made(Auth.model_validate({"tokens": list(tokens), "basic": users}))


def made(auth: Auth) -> Authenticator:
    found = Authenticator.of(auth)
    assert found is not None
    return found


def basic(credentials: str, scheme: str = "Basic") -> bytes:
    return f"{scheme} {b64encode(credentials.encode()).decode()}".encode()


TOKENS = authenticator(tokens=["new-token", "old-token"])
USERS = authenticator(basic=[("alice", "one:two"), ("їжак", "пароль")])
BOTH = authenticator(tokens=["new-token"], basic=[("alice", "secret")])


@pytest.mark.parametrize("token", ["new-token", "old-token"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_each_token_opens_as_a_bearer_whatever_the_case_of_the_scheme(
    token: str, scheme: str
) -> None:
    """Several tokens, so that they can rotate; RFC 9110: a scheme's case means nothing."""
    assert TOKENS.accepts(f"{scheme} {token}".encode(), b"")


@pytest.mark.parametrize("token", ["new-token", "old-token"])
def test_each_token_opens_in_the_query(token: str) -> None:
    assert TOKENS.accepts(None, f"token={token}".encode())
    assert TOKENS.accepts(None, f"a=1&token={token}&b=2".encode())


def test_one_request_is_not_thousands_of_guesses() -> None:
    """Nor thousands of digests, with a 401 at the end, while others wait."""
    assert TOKENS.accepts(None, b"token=wrong&" * 3 + b"token=old-token")
    assert not TOKENS.accepts(None, b"token=wrong&" * 4 + b"token=old-token")


def test_one_right_token_of_several_presented_opens() -> None:
    assert TOKENS.accepts(None, b"token=wrong&token=old-token")
    assert TOKENS.accepts(b"Bearer wrong", b"token=old-token")
    assert TOKENS.accepts(b"Bearer old-token", b"token=wrong")


def test_space_around_the_credential_is_ignored() -> None:
    assert TOKENS.accepts(b"  Bearer   new-token  ", b"")


@pytest.mark.parametrize("credentials", ["alice:one:two", "їжак:пароль"])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_each_pair_opens_as_basic(credentials: str, scheme: str) -> None:
    """A password may hold a colon, and either part any character (UTF-8, RFC 7617)."""
    assert USERS.accepts(basic(credentials, scheme), b"")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Basic",
        b"Basic ",
        b"Bearer wrong",
        b"Bearer NEW-TOKEN",
        b"Bearer new-toke",
        b"Bearer new-tokenx",
        b"Bearer new-token old-token",
        b"new-token",
        b"Token new-token",
        b"Digest new-token",
        b"Bearer\tnew-token\0",
        b"Bearer \xff\xfe",
        b"Basic !!!",
        b"Basic YWxpY2U",
        b"Basic =",
        b"Basic \xff\xfe",
        b"Basic alice:secret",
        basic("alice:new-token"),
        basic("new-token"),
        basic("alice"),
        basic(":"),
        basic(""),
        basic("Alice:secret"),
        basic("alice:Secret"),
        basic("alice:secret", "Bearer"),
        b"Bearer secret",
        b"Bearer alice:secret",
    ],
)
def test_anything_else_in_the_header_does_not_open(authorization: bytes | None) -> None:
    """Neither a part, nor a credential of the other scheme, nor what is no credential at all."""
    assert not BOTH.accepts(authorization, b"")


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"token",
        b"token=",
        b"token=&token=",
        b"token=wrong",
        b"Token=new-token",
        b"xtoken=new-token",
        b"tokens=new-token",
        b"token=secret",
        b"password=secret",
        b"new-token",
        b"a=token=new-token",
    ],
)
def test_anything_else_in_the_query_does_not_open(query: bytes) -> None:
    assert not BOTH.accepts(None, query)


def test_basic_does_not_open_where_only_tokens_are_set_nor_the_other_way_round() -> None:
    assert not TOKENS.accepts(basic("alice:one:two"), b"")
    assert not USERS.accepts(b"Bearer one:two", b"token=one:two")
    assert not USERS.accepts(None, b"token=")


def test_an_empty_credential_never_opens() -> None:
    """Not even where an empty one has been let into the settings."""
    hollow = made(Auth.model_construct(tokens=(SecretStr(""),), basic=()))
    for authorization in (None, b"", b"Bearer", b"Bearer ", b"Basic ", b"Basic Og=="):
        assert not hollow.accepts(authorization, b"token=")


def test_without_credentials_in_the_settings_there_is_nothing_to_compare_with() -> None:
    """An endpoint may be open to all, or to some addresses."""
    assert Authenticator.of(None) is None
    assert Authenticator.of(Auth.model_validate({"allow": ["203.0.113.0/24"]})) is None


def test_a_token_is_percent_decoded_in_the_query() -> None:
    odd = authenticator(tokens=["a+b&c=d/e f%"])

    assert odd.accepts(None, b"token=" + quote("a+b&c=d/e f%", safe="").encode())


PLUS_OR_SPACE = ["ab+c/d==", "ab c", "+", "a+b c", "a%2Bb+c", "+ключ +"]


@pytest.mark.parametrize("token", PLUS_OR_SPACE)
@pytest.mark.parametrize(
    "written",
    [
        quote_plus,  # as a form
        lambda token: quote(token, safe=""),  # as a URL
        lambda token: quote(token, safe="+"),  # a plus is no reserved character
        lambda token: quote(token, safe=" +").replace(" ", "+"),
        lambda token: quote(token.replace("+", " "), safe=""),  # read as a form, written as a URL
    ],
)
def test_a_plus_in_the_url_is_a_plus_or_a_space(token: str, written: Callable[[str], str]) -> None:
    """Which of the two it arrives as is up to what handles the provider's URL on its way."""
    guard = authenticator(tokens=["other", token])
    assert guard.accepts(None, b"token=" + written(token).encode())
    assert not guard.accepts(None, b"token=" + written(token + "x").encode())
    assert not guard.accepts(None, b"token=" + written(token).replace("+", "-").encode() + b"-")


def test_a_plus_in_a_header_is_a_plus() -> None:
    guard = authenticator(tokens=["a+b"], basic=[("alice", "c+d")])
    assert guard.accepts(b"Bearer a+b", b"")
    assert not guard.accepts(b"Bearer a b", b"")
    assert not guard.accepts(basic("alice:c d"), b"")


def test_every_secret_is_compared_however_early_one_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time that it takes tells nothing of which one it was."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    guard = authenticator(tokens=["a+b", "c", "d"])
    for query in (b"token=a+b", b"token=a%2Bb", b"token=c", b"token=wrong", b"token="):
        compared.clear()
        guard.accepts(None, query)
        assert len(compared) == 3


def test_a_token_beyond_ascii_opens_in_header_and_query() -> None:
    odd = authenticator(tokens=["ключ"])

    assert odd.accepts("Bearer ключ".encode(), b"")
    assert odd.accepts(None, b"token=" + quote("ключ").encode())


@pytest.mark.parametrize(
    "query",
    [
        b"token=wrong" + b"&a=1" * 200,
        b"token=%C3%A9",
        b"token=\xc3\xa9",
        b"token=%FF",
        b"token=\xff",
        b"%=&&;token=%%%",
    ],
)
def test_a_hostile_query_is_refused_and_breaks_nothing(query: bytes) -> None:
    """It comes before authentication, from anybody: no error may escape."""
    assert TOKENS.accepts(None, query) is False


@settings(deadline=None)  # a loaded machine is no failure
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_break_the_comparison(authorization: bytes, query: bytes) -> None:
    for scheme in (b"", b"Basic ", b"Bearer "):
        assert BOTH.accepts(scheme + authorization, b"token=" + query) is False


@pytest.mark.parametrize(
    ("guard", "schemes"),
    [(TOKENS, ["Bearer"]), (USERS, ["Basic"]), (BOTH, ["Basic", "Bearer"])],
)
def test_the_challenge_names_the_schemes_that_open(
    guard: Authenticator, schemes: list[str]
) -> None:
    challenges = guard.challenge.split(", ")

    assert [challenge.partition(" ")[0] for challenge in challenges] == schemes
    assert all(' realm="' in challenge for challenge in challenges)


def test_no_secret_and_no_digest_shows() -> None:
    shown = repr(BOTH) + str(BOTH) + f"{BOTH}" + BOTH.challenge

    for hidden in ("new-token", "secret", "alice"):
        assert hidden not in shown
    for digest in (*BOTH.tokens, *BOTH.query_tokens, *BOTH.basic):
        assert repr(digest) not in shown
        assert digest.hex() not in shown
        assert b"new-token" not in digest
