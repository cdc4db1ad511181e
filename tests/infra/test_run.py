"""`./run` on small checkouts of its own: a lock file of one package, a project with a build backend that can be held.

That it prepares the real checkout from nothing is what every fresh clone shows before these tests can run.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.kafka import TOP
from infra.prepare.jars import Jars
from infra.prepare.steps import PreparationError, Steps, read_stamp, write_stamp
from infra.prepare.system import Tool, ensure

PATIENCE = 120  # seconds until a process that should have done something counts as hung

BACKEND = """
import os, sys, time, zipfile, base64, hashlib
TOP = os.path.dirname(os.path.abspath(__file__))
def get_requires_for_build_editable(config_settings=None):
    return []
def build_editable(folder, config_settings=None, metadata_directory=None):
    open(os.path.join(TOP, "building"), "w").close()
    while os.path.exists(os.path.join(TOP, "hold")):
        time.sleep(0.02)
    name = "veilstream-1-py3-none-any.whl"
    files = {
        "_veilstream.pth": TOP + "\\n",
        "veilstream-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: veilstream\\nVersion: 1\\n",
        "veilstream-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{n},," + "\\n" for n in files) + "veilstream-1.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in {**files, "veilstream-1.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "veilstream"
version = "1"
"""
COMMAND = """
import sys
import onlypackage
print(sys.prefix, onlypackage.VALUE, *sys.argv[1:])
sys.exit(7 if "fail" in sys.argv else 0)
"""


def wheel_of(folder: Path, version: str, value: str) -> str:
    """Writes a wheel and returns its line for the lock file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"onlypackage-{version}-py3-none-any.whl"
    info = f"onlypackage-{version}.dist-info"
    files = {
        "onlypackage.py": f"VALUE = {value!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: onlypackage\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(text)}\n")
        wheel.writestr(f"{info}/RECORD", "".join(record) + f"{info}/RECORD,,\n")
    return f"onlypackage=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Checkout:
    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self.wheels = wheels
        self.venv = folder / ".veilstream/venv"

    def fill(self) -> Checkout:
        shutil.copytree(TOP / "infra/prepare", self.folder / "infra/prepare")
        (self.folder / "infra/__init__.py").touch()
        (self.folder / "infra/cli").mkdir()
        (self.folder / "infra/cli/__init__.py").touch()
        (self.folder / "infra/cli/__main__.py").write_text(COMMAND)
        shutil.copy(TOP / "run", self.folder)
        (self.folder / "backend.py").write_text(BACKEND)
        (self.folder / "pyproject.toml").write_text(PYPROJECT)
        (self.folder / "requirements.lock").write_text(wheel_of(self.wheels, "1", "one"))
        return self

    def popen(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
        # The python that `run` finds is the one that runs these tests, and pip sees nothing but our wheels.
        env["PATH"] = f"{Path(sys.base_prefix) / 'bin'}:{env['PATH']}"
        env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), **environment}
        return subprocess.Popen(
            [str(self.folder / "run"), *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's job in the background has none
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.popen(*arguments, **environment)
        output, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, output, errors

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def release(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)

    def wait_building(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (self.folder / "building").exists():
            assert time.monotonic() < deadline, "the project was never built"
            time.sleep(0.02)
        (self.folder / "building").unlink()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One checkout for all tests here, prepared by its first command; making an environment takes seconds."""
    folder = tmp_path_factory.mktemp("run") / "a checkout"
    folder.mkdir()
    checkout = Checkout(folder, folder.parent / "wheels").fill()
    status, output, errors = checkout.run("anything", "two words")
    assert status == 0, errors
    assert output == f"{checkout.venv} one anything two words\n"
    assert "1 Python packages: done" in errors
    return checkout


@pytest.fixture
def unfinished(prepared: Checkout) -> Iterator[Checkout]:
    """The checkout with its last step to do again, and that step held."""
    (prepared.venv / "prepared").unlink(missing_ok=True)
    (prepared.folder / "building").unlink(missing_ok=True)
    prepared.hold()
    yield prepared
    prepared.release()  # also after a failure: nothing is left waiting


def no_python(folder: Path) -> str:
    """A PATH on which every python3 fails: preparing cannot begin."""
    folder.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (folder / name).write_text("#!/bin/sh\nexit 3\n")
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_once_prepared_nothing_is_prepared_again(prepared: Checkout, tmp_path: Path) -> None:
    status, output, errors = prepared.run("x", PATH=no_python(tmp_path / "bin"))
    assert (status, errors) == (0, "")
    assert output == f"{prepared.venv} one x\n"


def test_the_exit_status_is_the_command_s(prepared: Checkout) -> None:
    assert prepared.run("fail")[0] == 7


def test_it_works_from_anywhere_and_through_a_link(prepared: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(prepared.folder / "run")
    done = subprocess.run([link, "x"], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == f"{prepared.venv} one x\n"


@pytest.mark.long
def test_a_new_lock_file_makes_the_environment_anew_with_the_right_hash_only(prepared: Checkout) -> None:
    lock = prepared.folder / "requirements.lock"
    before = lock.read_text()
    wanted = wheel_of(prepared.wheels, "2", "two")
    lock.write_text(f"{wanted.rpartition(':')[0]}:{'0' * 64}\n")
    status, _, errors = prepared.run()
    assert status == 2
    assert "hash" in errors.lower()
    lock.write_text(wanted)
    assert prepared.run()[1] == f"{prepared.venv} two\n"
    lock.write_text(before)
    assert prepared.run()[1] == f"{prepared.venv} one\n"


def test_a_copied_checkout_gets_its_own_environment(prepared: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "copy", prepared.wheels)
    shutil.copytree(prepared.folder, copy.folder, symlinks=True)
    status, output, errors = copy.run()
    assert status == 0, errors
    assert output == f"{copy.venv} one\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_half_way_it_goes_on(unfinished: Checkout, number: signal.Signals) -> None:
    process = unfinished.popen()
    unfinished.wait_building()
    os.killpg(process.pid, number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert not (unfinished.venv / "prepared").exists()
    unfinished.release()
    status, output, errors = unfinished.run("again")
    assert status == 0, errors
    assert output == f"{unfinished.venv} one again\n"


@pytest.mark.long
def test_an_environment_that_lost_its_packages_half_way_is_rebuilt(prepared: Checkout) -> None:
    (prepared.venv / "prepared").unlink(missing_ok=True)
    (prepared.venv / "packages").unlink(missing_ok=True)
    for path in prepared.venv.glob("lib/python*/site-packages/onlypackage.py"):
        path.unlink()
    assert prepared.run("x")[1] == f"{prepared.venv} one x\n"


def test_two_at_once_wait_for_each_other(unfinished: Checkout) -> None:
    first = unfinished.popen("first")
    unfinished.wait_building()
    second = unfinished.popen("second")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    unfinished.release()
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert outputs == [f"{unfinished.venv} one first\n", f"{unfinished.venv} one second\n"]
    assert not (unfinished.folder / "building").exists()  # the second one found everything made


def test_after_a_kill_the_next_one_waits_for_the_orphaned_pip(unfinished: Checkout) -> None:
    first = unfinished.popen()
    unfinished.wait_building()
    first.kill()  # only `run`; its pip goes on
    second = unfinished.popen("second")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    unfinished.release()
    output, errors = second.communicate(timeout=PATIENCE)
    assert output == f"{unfinished.venv} one second\n", errors
    first.communicate(timeout=PATIENCE)


def test_without_a_new_enough_python_it_says_so(prepared: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "copy", prepared.wheels)
    shutil.copytree(prepared.folder, copy.folder, symlinks=True)
    status, _, errors = copy.run("x", PATH=no_python(tmp_path / "bin"))
    assert status == 2
    assert "Python 3.11" in errors
    assert errors.count("\n") == 1


# System packages and jars


@pytest.fixture
def quiet(tmp_path: Path) -> Steps:
    return Steps(tmp_path / "prepare")


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("java", ["exit 127", "echo 'openjdk version \"11.0.2\"' >&2"])
def test_who_is_not_root_gets_the_exact_command(
    tmp_path: Path, quiet: Steps, monkeypatch: pytest.MonkeyPatch, java: str
) -> None:
    tools = tmp_path / "bin"
    program(tools, "java", java)
    program(tools, "apt-get", "exit 1")
    program(tools, "apt-cache", 'case $2 in openjdk-17*) echo "Candidate: (none)";; *) echo "Candidate: 1";; esac')
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PreparationError) as caught:
        ensure([Tool.JAVA, Tool.FFMPEG], quiet)
    assert "sudo apt-get install -y openjdk-21-jre-headless ffmpeg" in str(caught.value)


def test_where_there_is_no_apt_the_tools_are_named(
    tmp_path: Path, quiet: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreparationError, match="Java 17 or newer, Maven, ffmpeg"):
        ensure([Tool.JAVA, Tool.MAVEN, Tool.FFMPEG], quiet)


def test_root_updates_then_installs_then_looks(tmp_path: Path, quiet: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    calls = tmp_path / "calls"
    program(
        tools,
        "apt-get",
        f'echo "apt-get $*" >> {calls}\ncase "$*" in *install*) > {tools}/wrk; chmod +x {tools}/wrk;; esac',
    )
    program(tools, "apt-cache", 'echo "Candidate: 1"')
    program(tools, "dpkg", f'echo "dpkg $*" >> {calls}')
    monkeypatch.setenv("PATH", f"{tools}:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: str(tools / name) if (tools / name).exists() else None)
    ensure([Tool.WRK], quiet)
    words = [line.split() for line in calls.read_text().splitlines()]
    assert [line[0] for line in words] == ["apt-get", "dpkg", "apt-get"]
    assert "update" in words[0]
    assert words[2][-1] == "wrk"
    calls.unlink()
    ensure([Tool.WRK], quiet)
    assert not calls.exists()


def test_jars_are_complete_or_not_there(tmp_path: Path, quiet: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, pom = tmp_path / "bin", tmp_path / "pom.xml"
    pom.write_text("<project/>")
    jars = Jars(pom, tmp_path / "kafka")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    fetch = 'for a in "$@"; do case $a in -DoutputDirectory=*) d=${a#*=};; esac; done\n'
    program(tools, "mvn", fetch + "> $d/kafka_2.13-4.jar; exit 1")
    with pytest.raises(PreparationError, match="Kafka's jars"):
        jars.make(quiet)
    assert not jars.libs.exists()
    assert not jars.prepared()
    program(tools, "mvn", fetch + "> $d/other.jar")
    with pytest.raises(PreparationError, match="no Kafka server"):
        jars.make(quiet)
    program(tools, "mvn", fetch + "> $d/kafka_2.13-4.jar")
    jars.make(quiet)
    assert jars.prepared()
    assert [path.name for path in jars.libs.iterdir()] == ["kafka_2.13-4.jar"]
    pom.write_text("<project><!-- newer --></project>")
    assert not jars.prepared()


def test_a_step_that_fails_shows_its_last_lines_and_its_log(tmp_path: Path, quiet: Steps) -> None:
    with pytest.raises(PreparationError) as caught:
        quiet.run("the step", ["sh", "-c", "echo the reason; exit 3"], log="step")
    assert "the reason" in str(caught.value)
    assert "status 3" in str(caught.value)
    assert str(tmp_path / "prepare/step.log") in str(caught.value)


def test_a_stamp_is_there_whole(tmp_path: Path) -> None:
    assert read_stamp(tmp_path / "stamp") == ""
    write_stamp(tmp_path / "stamp", "text")
    assert read_stamp(tmp_path / "stamp") == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["stamp"]


def test_the_lock_file_has_hashes_and_no_address() -> None:
    lines = (TOP / "requirements.lock").read_text().splitlines()
    packages = [line for line in lines if line and line[0] not in " #"]
    assert len(packages) > 50
    assert all(line.endswith("\\") for line in packages)
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    assert not [line for line in lines if line.startswith("#") and "/" in line.replace("./run", "")]
