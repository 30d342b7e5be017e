"""The peers that need a home of their own: Quix Streams and pyDVL (their pins clash with ours) and Kafka Streams (Java).

Those of ``pipeline`` are put into the cache on first use: an environment by venv and pip, a folder of jars by Maven. pyDVL, which
brings another PyTorch, is only used where there is an environment with it already (``PYDVL_PYTHON``).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from streams.broker.distribution import cache_folder, find_java

QUIX_VERSION = "3.28.1"
_QUIX_PACKAGES = (f"quixstreams=={QUIX_VERSION}", "orjson==3.11.4")
_TOPOLOGY = Path(__file__).parent / "kafka_streams"
#: The environment variable that names the python of an environment with pyDVL, and how to make one, of the version that was compared.
PYDVL_PYTHON = "ASSAY_PYDVL_PYTHON"
PYDVL_SETUP = "python3 -m venv HOME; HOME/bin/pip install pydvl==0.10.0"


class PeerUnavailable(RuntimeError):
    """A peer could not be built; the message says by what."""


def quix_command(script: str, *arguments: str) -> list[str]:
    """The command that runs ``tests/benchmarks/<script>`` in Quix Streams' environment."""
    home = cache_folder().parent / f"quixstreams-{QUIX_VERSION}"
    if not home.is_dir():
        with tempfile.TemporaryDirectory(dir=_made(home.parent), prefix="building-") as scratch:
            built = Path(scratch) / "home"
            _run([sys.executable, "-m", "venv", str(built)], "Quix Streams")
            _run([str(built / "bin" / "python"), "-m", "pip", "install", "-q", *_QUIX_PACKAGES], "Quix Streams")
            built.rename(home)
    return [str(home / "bin" / "python"), str(Path(__file__).parent / script), *arguments]


def pydvl_command(source: Path, target: Path) -> list[str]:
    """The command that values the data of ``source`` by pyDVL, into ``target`` (``pydvl_values``)."""
    python = os.environ.get(PYDVL_PYTHON)
    if python is None:
        raise PeerUnavailable(f"{PYDVL_PYTHON} names no python with pyDVL; {PYDVL_SETUP}")
    return [python, "-Wignore::FutureWarning", str(Path(__file__).parent / "pydvl_values.py"), str(source), str(target)]


def kafka_streams_command(*arguments: str) -> list[str]:
    """The command that runs the topology on Kafka Streams."""
    sources = [path for path in sorted(_TOPOLOGY.rglob("*")) if path.suffix in {".xml", ".java"}]
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    home = cache_folder().parent / f"kafka-streams-peer-{version}"
    if not home.is_dir():
        maven = shutil.which("mvn")
        if maven is None:
            raise PeerUnavailable("Kafka Streams is built by Maven, and mvn is not on the path. On Debian: apt-get install maven")
        with tempfile.TemporaryDirectory(dir=_made(home.parent), prefix="building-") as scratch:
            copy = Path(scratch) / "project"
            shutil.copytree(_TOPOLOGY, copy)
            goals = ("package", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={copy}/target")
            _run([maven, "-q", "-B", "-ntp", "-f", str(copy / "pom.xml"), *goals], "Kafka Streams")
            jars = Path(scratch) / "jars"
            jars.mkdir()
            for jar in (copy / "target").glob("*.jar"):
                jar.rename(jars / jar.name)
            jars.rename(home)
    return [find_java(), "-Xmx1g", "-XX:+UseSerialGC", "-cp", f"{home}/*", "assay.StateJob", *arguments]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: list[str], peer: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeerUnavailable(f"{peer} could not be built: {' '.join(command)}\n{(done.stdout + done.stderr)[-2000:]}")
