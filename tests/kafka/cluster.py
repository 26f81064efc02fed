"""Real Kafka brokers for tests: KRaft nodes on the loopback address, started in seconds, ended with the test.

Belongs here: getting the broker, certificates, starting, killing. Does not belong here: what is tested on them. Needs
Java 17 or newer and the broker's jars (`KAFKA_LIBS`, or Maven fetches them once); says what is missing otherwise.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".gridtokenx" / "kafka"
MAVEN_SECONDS, START_SECONDS = 240, 90
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOGGING = """Configuration:
  status: error
  Appenders: {Console: {name: out, target: SYSTEM_ERR, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: warn, AppenderRef: {ref: out}}}
"""


class KafkaMissing(RuntimeError):
    """What a real broker needs and this machine lacks."""


def jars() -> Path:
    """Folder of the broker's jars; fetched by Maven the first time. Raises KafkaMissing."""
    if shutil.which("java") is None:
        raise KafkaMissing("no java on this machine: real Kafka brokers can't be started")
    given = os.environ.get("KAFKA_LIBS")
    if given:
        if not list(Path(given).glob("kafka_*.jar")):
            raise KafkaMissing(f"KAFKA_LIBS was {given!r}, must be a folder with Kafka's jars")
        return Path(given)
    libs = CACHE / "libs"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(libs.glob("kafka_*.jar")):
            _fetch(libs)
    return libs


def _fetch(libs: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaMissing("no mvn on this machine and no KAFKA_LIBS: real Kafka brokers can't be fetched")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        target = Path(folder) / "libs"
        command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        try:
            done = subprocess.run(
                [*command, f"-DoutputDirectory={target}"],
                capture_output=True,
                text=True,
                timeout=MAVEN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise KafkaMissing(f"Maven gave no broker within {MAVEN_SECONDS} s") from error
        if done.returncode:
            tail = " ".join((done.stdout + done.stderr).split())[-300:]
            raise KafkaMissing(f"Maven could not fetch the broker: {tail}")
        shutil.rmtree(libs, ignore_errors=True)
        target.rename(libs)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Certificates:
    """A certificate authority of one test and the brokers' certificate from it, as PEM files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.broker = folder / "ca.pem", folder / "broker.pem"
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("test authority")
        authority = _certificate(name, name, key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
        signed = authority.sign(key, hashes.SHA256())
        self.ca.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        own = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        )
        made = _certificate(_name("broker"), name, own.public_key()).add_extension(names, False)
        pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.broker.write_bytes(private + pem)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
    )


class Node:
    """One broker and controller; may be killed and started again on its kept log."""

    def __init__(self, number: int, folder: Path, port: int, secure_port: int | None) -> None:
        self.number, self.folder, self.port, self.secure_port = number, folder, port, secure_port
        self.process: subprocess.Popen[bytes] | None = None

    def log_tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])


class RealKafka:
    """A cluster of real nodes; `secure`: a TLS and SCRAM listener guarded by access rules beside the plain one."""

    def __init__(self, folder: Path, nodes: int = 3, secure: bool = False) -> None:
        self.libs, self.folder = jars(), folder
        self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        ports = free_ports(3 * nodes)
        self.nodes = [
            Node(
                number + 1, folder / f"node-{number + 1}", ports[3 * number], ports[3 * number + 1] if secure else None
            )
            for number in range(nodes)
        ]
        self._voters = ",".join(f"{node.number}@127.0.0.1:{ports[3 * at + 2]}" for at, node in enumerate(self.nodes))
        self._controllers = [ports[3 * at + 2] for at in range(nodes)]
        self.certificates = Certificates(folder / "tls") if secure else None
        self._archive = CACHE / "classes.jsa"
        self._options = folder / "log4j2.yaml"

    @property
    def bootstrap_servers(self) -> str:
        """Of the plain listeners: clients without a name, who may do everything."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def secure_servers(self) -> str:
        """Of the TLS and SCRAM listeners."""
        return ",".join(f"127.0.0.1:{node.secure_port}" for node in self.nodes)

    def start(self) -> None:
        """Format and start all nodes, and wait until every one takes clients."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._options.write_text(LOGGING)
        for at, node in enumerate(self.nodes):
            node.folder.mkdir(parents=True)
            (node.folder / "server.properties").write_text(self._properties(node, self._controllers[at]))
        first = self.nodes[0]
        command = ["kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c"]
        done = subprocess.run(
            self._java([*command, str(first.folder / "server.properties")]), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"format failed: {done.stdout}{done.stderr}")
        for node in self.nodes[1:]:
            # what the tool writes differs in two lines only, and a start of its own costs a second of a core each
            shutil.copytree(first.folder / "data", node.folder / "data")
            _renumber(node.folder / "data" / "meta.properties", node.number)
        for node in self.nodes:
            self.start_node(node, wait=False)
        for node in self.nodes:
            self._wait(node)

    def _properties(self, node: Node, controller: int) -> str:
        size = len(self.nodes)
        listeners = [f"PLAIN://127.0.0.1:{node.port}", f"CONTROLLER://127.0.0.1:{controller}"]
        advertised = [listeners[0]]
        lines = {
            "process.roles": "broker,controller",
            "node.id": node.number,
            "controller.quorum.voters": self._voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "log.dirs": node.folder / "data",
            "default.replication.factor": size,
            "min.insync.replicas": min(size, 2),
            "offsets.topic.replication.factor": size,
            "offsets.topic.num.partitions": 3,
            "transaction.state.log.replication.factor": size,
            "transaction.state.log.min.isr": min(size, 2),
            "transaction.state.log.num.partitions": 3,
            "share.coordinator.state.topic.replication.factor": size,
            "share.coordinator.state.topic.min.isr": min(size, 2),
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            # a killed node is missed sooner than the default of nine seconds
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
        }
        if self.certificates is not None:
            listeners.append(f"SECURE://127.0.0.1:{node.secure_port}")
            advertised.append(listeners[-1])
            lines |= {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "allow.everyone.if.no.acl.found": "false",
                "super.users": "User:ANONYMOUS;User:admin",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.secure.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": self.certificates.broker,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self.certificates.ca,
            }
        lines["listeners"] = ",".join(listeners)
        lines["advertised.listeners"] = ",".join(advertised)
        lines["listener.security.protocol.map"] = "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _java(self, arguments: list[str], *, dump: bool = False) -> list[str]:
        shared = []
        if self._archive.is_file():
            shared = [f"-XX:SharedArchiveFile={self._archive}"]
        elif dump:
            shared = [f"-XX:ArchiveClassesAtExit={self._archive}"]
        options = [*JVM, *shared, f"-Dlog4j2.configurationFile={self._options}"]
        # the archive holds for one class path in one order only
        path = ":".join(str(jar) for jar in sorted(self.libs.glob("*.jar")))
        return ["java", *options, "-cp", path, *arguments]

    def start_node(self, node: Node, wait: bool = True) -> None:
        """Start a node on its log."""
        # one node writes the class archive when it ends politely: the next cluster starts in half the time
        dump = node is self.nodes[0] and not os.environ.get("CI")
        with open(node.folder / "log", "ab") as log:
            node.process = subprocess.Popen(
                self._java(["kafka.Kafka", str(node.folder / "server.properties")], dump=dump),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if wait:
            self._wait(node)

    def _wait(self, node: Node) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if node.process is None or node.process.poll() is not None:
                raise RuntimeError(f"node {node.number} ended:\n{node.log_tail()}")
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", node.port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"node {node.number} did not listen within {START_SECONDS} s:\n{node.log_tail()}")
            time.sleep(0.05)

    def kill_node(self, node: Node) -> None:
        """`kill -9`."""
        if node.process is not None:
            node.process.kill()
            node.process.wait()

    def stop(self) -> None:
        """End all nodes; nothing of theirs is kept."""
        first = self.nodes[0].process
        if first is not None and first.poll() is None and not self._archive.is_file() and not os.environ.get("CI"):
            # politely and while the others live, or it waits for its quorum; then it writes the class archive
            first.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                first.wait(30)
        for node in self.nodes:
            self.kill_node(node)
        shutil.rmtree(self.folder, ignore_errors=True)


def _renumber(meta: Path, number: int) -> None:
    lines = meta.read_text().splitlines()
    unique = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    replaced = {"node.id": str(number), "directory.id": unique}
    changed = [
        f"{name}={replaced.get(name, value)}" if not line.startswith("#") else line
        for line in lines
        for name, _, value in [line.partition("=")]
    ]
    meta.write_text("\n".join(changed) + "\n")


@contextlib.contextmanager
def running(folder: Path, nodes: int = 3, secure: bool = False) -> Iterator[RealKafka]:
    """A started cluster, ended at the end. Raises KafkaMissing."""
    cluster = RealKafka(folder, nodes, secure)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
