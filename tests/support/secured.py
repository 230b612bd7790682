"""A real Kafka that asks who is there: TLS, logins, client certificates and ACLs.

Certificates are made here, by a CA of the tests' own, and given to the broker as PEM.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from trustme import CA, LeafCert

from bridge.demo.child import free_ports
from tests.support.brokers import REQUEST_TIMEOUT_SECONDS, KafkaCluster
from tests.support.oauth import AUDIENCE, ISSUER, Issuer

HOST = "127.0.0.1"
USER, PASSWORD = "bridge", "a-password-that-no-log-may-show"
LISTENERS = {
    "LOGIN": "SASL_SSL",
    "MUTUAL": "SSL",
    "PROXIED": "SSL",
    "FLAWED": "SASL_SSL",
    "TOKEN": "SASL_SSL",
}
ANYTHING = (
    AclOperation.WRITE,
    AclOperation.READ,
    AclOperation.DESCRIBE,
    AclOperation.DESCRIBE_CONFIGS,
)
_JAAS = "org.apache.kafka.common.security"


def certificate(ca: CA, *names: str, common_name: str, expired: bool = False) -> LeafCert:
    """A certificate of a CA; that of yesterday where it is to have expired."""
    days = -1 if expired else 30
    now = datetime.now(UTC)
    return ca.issue_cert(
        *names,
        common_name=common_name,
        not_before=now - timedelta(days=2),
        not_after=now + timedelta(days=days),
    )


def key_pem(leaf: LeafCert, password: str | None = None) -> bytes:
    """The private key as PKCS#8, the one form that Kafka reads."""
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    lock = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def chain_pem(leaf: LeafCert) -> bytes:
    """The certificate, and what stands between it and its CA."""
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


class ClientFiles:
    """The files of `kafka.security.tls`, in a directory of their own, to be written again."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca, self.cert, self.key = (directory / n for n in ("ca.crt", "tls.crt", "tls.key"))

    def trust(self, *cas: CA) -> None:
        self.ca.write_bytes(_bundle(*cas))

    def show(self, leaf: LeafCert) -> None:
        self.cert.write_bytes(chain_pem(leaf))
        self.key.write_bytes(key_pem(leaf))

    def tls(self, *names: str) -> dict[str, str]:
        """The settings, of the files that were asked for."""
        files = {"ca_file": self.ca, "cert_file": self.cert, "key_file": self.key}
        return {name: str(files[name]) for name in names or files}


def login(
    username: str = USER, password: str = PASSWORD, mechanism: str = "SCRAM-SHA-512"
) -> dict[str, str]:
    """The settings of `kafka.security.sasl`."""
    return {"mechanism": mechanism, "username": username, "password": password}


class SecuredKafka(KafkaCluster):
    """One node with a listener for each way to be known.

    LOGIN and FLAWED want SCRAM or PLAIN over TLS, MUTUAL and PROXIED a client certificate;
    PROXIED calls itself by the port `proxied_port`, and FLAWED's certificate can be replaced. TOKEN
    wants a token of `issuer` for its user. Who comes over PLAINTEXT may do everything.
    """

    def __init__(self, directory: Path) -> None:
        self.ca = CA(organization_name="Brokers")
        self.client_ca = CA(organization_name="Clients")
        self._directory_of_keys = directory
        self._numbers = count(1)
        self.issuer = Issuer()
        super().__init__(listeners=LISTENERS, properties=self._security())
        (self.proxied_port,) = free_ports(1)
        own = [f"{name}://{self.addresses(name)}" for name in ("PLAINTEXT", *LISTENERS)]
        advertised = [a for a in own if not a.startswith("PROXIED")] + [
            f"PROXIED://{HOST}:{self.proxied_port}"
        ]
        self.overrides[1]["advertised.listeners"] = ",".join(advertised)

    def client(self, *, expired: bool = False, ca: CA | None = None) -> LeafCert:
        """A certificate that the broker knows the bridge by."""
        names = f"{USER}.example.com"
        return certificate(ca or self.client_ca, names, common_name=USER, expired=expired)

    def know(self, user: str, password: str) -> None:
        """Make SCRAM credentials, or change the password."""
        admin = self.admin()
        for kind in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            secret = ScramCredentialInfo(kind, 4096), password.encode()
            change = UserScramCredentialUpsertion(user, *secret)
            _done(admin.alter_user_scram_credentials([change]))

    def allow(
        self,
        topic: str,
        operations: Sequence[AclOperation] = ANYTHING,
        *,
        user: str = USER,
        prefix: bool = False,
    ) -> None:
        """Let a user do something with a topic, or with all that begin so."""
        bindings = [_acl(AclBinding, topic, user, operation, prefix) for operation in operations]
        admin = self.admin()
        _done(admin.create_acls(bindings))

    def forbid(self, topic: str, operations: Sequence[AclOperation], *, user: str = USER) -> None:
        """Take back what was allowed."""
        filters = [_acl(AclBindingFilter, topic, user, operation) for operation in operations]
        admin = self.admin()
        _done(admin.delete_acls(filters))

    def show(self, listener: str, leaf: LeafCert) -> None:
        """Have a listener show another certificate, from its next connection on."""
        self._alter(listener, "keystore", self._keystore(leaf))

    def trust(self, listener: str, *cas: CA) -> None:
        """Have a listener trust the client certificates of these CAs alone."""
        self._alter(listener, "truststore", self._file(_bundle(*cas)))

    def broker(self, name: str = HOST, *, expired: bool = False, ca: CA | None = None) -> LeafCert:
        """A certificate for a broker that is called so."""
        return certificate(ca or self.ca, name, common_name="broker", expired=expired)

    def _alter(self, listener: str, store: str, file: str) -> None:
        name = f"listener.name.{listener.lower()}.ssl.{store}.location"
        entry = ConfigEntry(name, file, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        admin = self.admin()
        _done(admin.incremental_alter_configs([resource]))

    def _keystore(self, leaf: LeafCert) -> str:
        return self._file(key_pem(leaf) + chain_pem(leaf))

    def _file(self, content: bytes, suffix: str = ".pem") -> str:
        file = self._directory_of_keys / f"store-{next(self._numbers)}{suffix}"
        file.write_bytes(content)
        return str(file)

    def _security(self) -> dict[str, str]:
        properties = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "ssl.allow.dn.changes": "true",
            "ssl.allow.san.changes": "true",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
            "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
            "connection.failed.authentication.delay.ms": "0",
        }
        for listener, protocol in LISTENERS.items():
            of = f"listener.name.{listener.lower()}"
            properties |= {
                f"{of}.ssl.keystore.type": "PEM",
                f"{of}.ssl.keystore.location": self._keystore(self.broker()),
            }
            if listener == "TOKEN":
                properties |= self._tokens(of)
            else:
                properties |= self._logins(of) if protocol == "SASL_SSL" else self._certificates(of)
        return properties

    def _logins(self, of: str) -> Mapping[str, str]:
        scram = f"{_JAAS}.scram.ScramLoginModule required;"
        plain = f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        return {
            f"{of}.scram-sha-256.sasl.jaas.config": scram,
            f"{of}.scram-sha-512.sasl.jaas.config": scram,
            f"{of}.plain.sasl.jaas.config": plain,
        }

    def _tokens(self, of: str) -> Mapping[str, str]:
        """Kafka's own validator; it reads keys only from where its JVM is told that it may."""
        keys = Path(self._file(self.issuer.jwks().encode(), ".json")).as_uri()
        self.jvm_flags = (f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}",)
        mechanism, validator = f"{of}.oauthbearer.sasl", f"{_JAAS}.oauthbearer.OAuthBearer"
        return {
            f"{mechanism}.jaas.config": f"{validator}LoginModule required;",
            f"{mechanism}.server.callback.handler.class": f"{validator}ValidatorCallbackHandler",
            f"{of}.sasl.oauthbearer.jwks.endpoint.url": keys,
            f"{of}.sasl.oauthbearer.expected.issuer": ISSUER,
            f"{of}.sasl.oauthbearer.expected.audience": AUDIENCE,
        }

    def _certificates(self, of: str) -> Mapping[str, str]:
        return {
            f"{of}.ssl.client.auth": "required",
            f"{of}.ssl.truststore.type": "PEM",
            f"{of}.ssl.truststore.location": self._file(_bundle(self.client_ca)),
        }


def _bundle(*cas: CA) -> bytes:
    return b"".join(ca.cert_pem.bytes() for ca in cas)


def _done(futures: Mapping[Any, Future[Any]]) -> None:
    """Wait for every answer; the admin client that asked must be kept until then."""
    for future in futures.values():
        future.result(REQUEST_TIMEOUT_SECONDS)


def _acl(kind: Any, topic: str, user: str, operation: AclOperation, prefix: bool = False) -> Any:
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    principal, anywhere = f"User:{user}", "*"
    allow = AclPermissionType.ALLOW
    return kind(ResourceType.TOPIC, topic, pattern, principal, anywhere, operation, allow)
