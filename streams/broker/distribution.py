"""Where Apache Kafka's jars are: in ``KAFKA_HOME``, in the cache, or fetched from Maven Central into the cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from streams.broker.exceptions import JavaMissing, MavenMissing

KAFKA_VERSION = "4.1.1"
#: The binding that Kafka 4.1's slf4j-api 1.7 accepts; it writes to stderr, which the broker sends to a file.
_SLF4J_VERSION = "1.7.36"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>assay</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{kafka}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version></dependency>
  </dependencies>
</project>
"""


def find_java() -> str:
    """The java to run: ``JAVA_HOME``'s, else the first on the path. Raises ``JavaMissing``."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    found = shutil.which("java")
    if found is None:
        raise JavaMissing(
            "Apache Kafka needs Java 17 or newer: none on the path and JAVA_HOME names none. "
            "On Debian: apt-get install openjdk-17-jre-headless"
        )
    return found


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/assay/kafka-<version>`` (``~/.cache`` where unset)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "assay" / f"kafka-{KAFKA_VERSION}"


def kafka_jars() -> Path:
    """The folder of Kafka's jars, fetched if need be (54 MB). Raises ``MavenMissing`` with what to install or to set."""
    home = os.environ.get("KAFKA_HOME")
    if home:
        libs = Path(home) / "libs"
        if not any(libs.glob("kafka_2.*.jar")):
            raise MavenMissing(
                f"KAFKA_HOME={home} holds no libs/kafka_2.*.jar; point it at an unpacked Kafka 4 or unset it to fetch one by Maven"
            )
        return libs
    cached = cache_folder()
    if not cached.is_dir():
        cached.parent.mkdir(parents=True, exist_ok=True)
        # One fetcher at a time, for Maven's own repository is not made for two; the others find the copy of the first.
        with (cached.parent / f"{cached.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return cached if cached.is_dir() else _fetch(cached)
    return cached


def _fetch(target: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise MavenMissing(
            "Apache Kafka is fetched by Maven, and mvn is not on the path. "
            "On Debian: apt-get install maven; or set KAFKA_HOME to an unpacked Kafka 4"
        )
    # Fetched beside the target and renamed, so that a reader never sees half a folder.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetching-") as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(_POM.format(kafka=KAFKA_VERSION, slf4j=_SLF4J_VERSION))
        libs = Path(scratch) / "libs"
        command = [
            maven,
            "-q",
            "-B",
            "-ntp",
            "-f",
            str(pom),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={libs}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not any(libs.glob("kafka_2.*.jar")):
            report = (done.stdout + done.stderr).strip()[-2000:]
            raise MavenMissing(
                f"Maven could not fetch Kafka {KAFKA_VERSION} (exit {done.returncode}); "
                f"set KAFKA_HOME to an unpacked Kafka 4 instead. Maven said:\n{report}"
            )
        libs.rename(target)
    return target
