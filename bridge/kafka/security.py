"""Follows the files of TLS on disk, and makes contexts of them.

Nothing here logs or prints a value.
"""

import contextlib
import ssl
from hashlib import blake2b
from typing import Any, Self

import structlog

from bridge.config.loader import read_file
from bridge.config.settings import Tls
from bridge.errors import BridgeError

log = structlog.get_logger(__name__)

# OpenSSL's codes of what a certificate lacks (X509_V_ERR_…).
NOT_YET_VALID, EXPIRED = 9, 10

_SECTION = "kafka.security.tls"


class TlsFiles:
    """The files of TLS, as they were when they could last be used.

    Each new connection is made with the files as they are by then. Files that are half written,
    or gone, change nothing: what was read before stays in use, and one line says so. The same
    holds for renewed files once `doubt` says that the brokers refuse them, until `accept`.
    """

    def __init__(self, settings: Tls | None) -> None:
        self._settings = settings or Tls()
        self._digests: tuple[bytes, ...] = ()
        self._latest: ssl.SSLContext | None = None
        self._former: ssl.SSLContext | None = None
        self._in_use: ssl.SSLContext | None = None
        self._problem: str | None = None  # of the files as they are, if any
        self.generation = 0  # of what was read

    def use(self, settings: Tls | None) -> None:
        """Read the same files with another password, if it is another one."""
        if settings is not None and settings != self._settings:
            self._settings, self._digests = settings, ()

    def current(self) -> ssl.SSLContext:
        """What new connections use now. Raises BridgeError if the files never were usable."""
        self.refresh()
        if self._in_use is None:
            raise BridgeError(self._problem)
        return self._in_use

    def refresh(self) -> None:
        """Read the files if they have changed."""
        try:
            digests = self._read()
            if self._latest and digests == self._digests and not self._problem:
                return
            latest = _load(self._settings)
        except (BridgeError, OSError) as exc:
            self._complain(_unusable(self._settings, exc))
        else:
            self._former, self._in_use, self._latest = self._in_use, latest, latest
            self._digests, self._problem = digests, None
            self.generation += 1

    def doubt(self) -> None:
        """Use what came before the latest files, if anything did: the brokers refuse these."""
        self._in_use = self._former or self._latest

    def accept(self) -> None:
        """Use the latest files."""
        self._in_use = self._latest

    def _read(self) -> tuple[bytes, ...]:
        """A digest of each file: a time stamp would miss what is written within its grain."""
        files = (self._settings.ca_file, self._settings.cert_file, self._settings.key_file)
        return tuple(blake2b(read_file(file, regular=True)).digest() for file in files if file)

    def _complain(self, problem: str) -> None:
        if problem != self._problem and self._latest is not None:
            log.error("TLS files cannot be used; the former ones stay in use", error=problem)
        self._problem = problem


class Following(ssl.SSLContext):
    """Hands each new connection to the context of the files as they are by then.

    A client of aiokafka keeps one context for as long as it lives.
    """

    _files: TlsFiles

    def __new__(cls, files: TlsFiles) -> Self:
        """Raise BridgeError if the files cannot be used now."""
        files.current()
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._files = files
        return self

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection; asyncio and uvloop both come here."""
        return self._files.current().wrap_bio(*args, **kwargs)


def _load(settings: Tls) -> ssl.SSLContext:
    """Read the files into a new context: a used one would keep the CAs that have gone."""
    context = trusting(settings.ca_file, f"{_SECTION}.ca_file")
    _load_pair(context, settings)
    return context


def trusting(ca_file: str | None, key: str) -> ssl.SSLContext:
    """A client's context that trusts the CAs in the file, or else the system's.

    Raises BridgeError, with the setting's key, if the file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificates and host names
    # As Java does: a CA in between is as good an anchor as the root.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if not ca_file:
        context.load_default_certs()
        return context
    try:
        read_file(ca_file, regular=True)  # OpenSSL would wait for a pipe
        context.load_verify_locations(ca_file)
    except ssl.SSLError as exc:
        raise BridgeError(f"{key}: {ca_file} holds no certificates in PEM") from exc
    except OSError as exc:
        raise BridgeError(f"{key}: cannot read {ca_file}: {exc.strerror}") from exc
    return context


def _load_pair(context: ssl.SSLContext, settings: Tls) -> None:
    if settings.cert_file is None or settings.key_file is None:
        return
    secret = settings.key_password
    asked = []

    def password() -> str:
        # Without an answer OpenSSL would ask on the terminal.
        asked.append(True)
        return secret.get_secret_value() if secret else ""

    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password)
    except ssl.SSLError as exc:
        pair = f"{settings.cert_file} and {settings.key_file}"
        if exc.reason == "KEY_VALUES_MISMATCH":
            what = f"{pair} do not belong together; one of them may be renewed, not both"
            raise BridgeError(f"{_SECTION}: {what}") from exc
        if asked:
            what = f"is {'wrong' if secret else 'missing'}: {settings.key_file} is encrypted"
            raise BridgeError(f"{_SECTION}.key_password {what}") from exc
        raise BridgeError(f"{_SECTION}: {pair} are not a certificate and a key in PEM") from exc


def own_certificate_fault(settings: Tls) -> str | None:
    """Why nobody can accept the certificate, whoever signed it: its time; None if that is fine.

    It is shown to a server in memory that trusts just this one, since the standard library reads
    no certificate by itself.
    """
    if settings.cert_file is None:
        return None
    try:
        client, server = _load(settings), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        _load_pair(server, settings)
        server.verify_mode = ssl.CERT_REQUIRED
        server.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        server.load_verify_locations(settings.cert_file)
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as exc:
        if exc.verify_code == EXPIRED:
            return f"the client certificate in {settings.cert_file} has expired: renew it"
        if exc.verify_code == NOT_YET_VALID:
            return f"the client certificate in {settings.cert_file} is not valid yet"
    except (BridgeError, OSError):
        pass  # told where the files are loaded
    return None


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):  # each has this many turns at most
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


def _unusable(settings: Tls, exc: BridgeError | OSError) -> str:
    """What is wrong with the files, and with which."""
    if isinstance(exc, BridgeError):
        return str(exc)
    key = next((key for key, file in settings if file == exc.filename), "file")
    return f"{_SECTION}.{key}: cannot read {exc.filename}: {exc.strerror}"
