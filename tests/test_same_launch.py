"""The same launch everywhere: a worker's environment, a person's tmux, what a failed launch says.

tmux is the real one, on a private socket; HOME is another, so that its configuration is ours.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import Project, needs_tmux, wait_for

from runner.job.slot_names import Slot
from runner.machine.environment_file import launch_environment, write_environment
from runner.runs.runs import live_slots

OF_TMUX = {b"TERM", b"TERM_PROGRAM", b"TERM_PROGRAM_VERSION", b"TMUX", b"TMUX_PANE"}

SHELL = {
    b"HF_HUB_OFFLINE": b"1",
    b"NCCL_DEBUG": b"WARN",
    b"LINES": b"one\ntwo\n\n  three; 'four' \"five\" $SIX `seven` #{host} #(touch pwned)\n",
    b"NOT_TEXT": b"\xff\xfe\x80 caf\xe9",
    b"CHINESE": "镜头".encode(),
    b"BASH_FUNC_module%%": b"() {  echo hello\n}",
    b"EMPTY": b"",
    b"HUGE": b"x" * 120_000,
}
"""Variables as shells have them."""


def start(project: Project, *words: str, environment: dict[bytes, bytes]) -> None:
    """Launch a sweep from a shell with this environment alone."""
    finished = subprocess.run(
        project.command("launch", "experiments/x.yaml", *words),
        cwd=project.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    assert b"1 worker started" in finished.stderr


def environment_of_worker(project: Project) -> dict[bytes, bytes]:
    """What the running worker's process was given, without what tmux says of its terminal; the
    sweep is stopped then."""
    wait_for(lambda: project.progress()["running"] == 1)
    pid = project.progress()["workers"][0]["pid"]
    content = Path(f"/proc/{pid}/environ").read_bytes()
    assert project.call("stop", "x", "--now").status == 0
    wait_for(lambda: not live_slots(project.run_folder))
    entries = (entry.partition(b"=") for entry in content.split(b"\0") if entry)
    return {name: value for name, _, value in entries if name not in OF_TMUX}


def tmux(project: Project, *words: str, **environment: str) -> str:
    command = ["tmux", "-L", project.environment["SWEEP_TMUX_SOCKET"], *words]
    finished = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return finished.stdout


@needs_tmux
def test_a_worker_has_the_launching_shells_environment_whatever_starts_it(
    project: Project, tmp_path: Path
) -> None:
    """All of it, to the byte, and nothing that a tmux server of long ago had; nothing of it lies
    about afterwards."""
    project.write(model={"seconds": 4})
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    here = {name: os.environb[name] for name in (b"PATH", b"PYTHONPATH") if name in os.environb}
    shell = {
        **here,
        **SHELL,
        b"HOME": os.fsencode(tmp_path),
        b"LANG": b"C.UTF-8",
        b"XDG_RUNTIME_DIR": os.fsencode(runtime),
        **{os.fsencode(key): value.encode() for key, value in project.environment.items()},
    }
    start(project, "--on", "local", environment=shell)
    local = environment_of_worker(project)
    assert shell.items() <= local.items()
    start(project, environment=shell)
    fresh = environment_of_worker(project)
    tmux(project, "kill-server")
    # A server of another shell, with other variables, which begins before ours.
    tmux(project, "new-session", "-d", "-s", "weeks", "sleep 99", HF_HUB_OFFLINE="0", OLD_TOKEN="s")
    tmux(project, "set-environment", "-g", "LD_PRELOAD", "/nowhere.so")
    start(project, environment=shell)
    old = environment_of_worker(project)
    assert fresh == local
    assert old == local
    assert list(runtime.iterdir()) == []
    assert not (project.root / "pwned").exists()


def test_a_handed_environment_is_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's runtime folder only where nobody else can look into it, never in the run."""
    run, shared, own = tmp_path / "run", tmp_path / "shared", tmp_path / "own"
    for folder, mode in ((run, 0o700), (shared, 0o755), (own, 0o700)):
        folder.mkdir()
        folder.chmod(mode)
    for runtime, temporary, place in (
        (own, tmp_path, own),
        (shared, tmp_path, tmp_path),
        (run, tmp_path, tmp_path),
        (run, run, Path("/tmp")),
        (tmp_path / "absent", tmp_path, tmp_path),
    ):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        file = write_environment({b"A": b"\xff\n"}, outside=run)
        try:
            assert file.parent == place
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.read_bytes() == b"A=\xff\n\0"
        finally:
            file.unlink()


def test_a_slot_finds_the_package_where_only_this_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `python -m runner` in a checkout that is not installed."""
    (tmp_path / "runner").symlink_to(Path(__file__).resolve().parents[1] / "runner")
    code = (
        "import sys\n"
        "sys.meta_path[:] = [one for one in sys.meta_path if 'ditable' not in repr(one)]\n"
        "sys.path[:] = [''] + [p for p in sys.path[1:] if 'python3' in p]\n"
        "from runner.machine.environment_file import PACKAGE, launch_environment\n"
        "path = launch_environment().get(b'PYTHONPATH', b'')\n"
        "print(path.split(b':')[0].decode() == str(PACKAGE.parent))"
    )
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "True", found.stderr
    root = Path(__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}:")
    assert launch_environment()[b"PYTHONPATH"] == os.environb[b"PYTHONPATH"]
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", f".:{root}")
    assert launch_environment()[b"PYTHONPATH"].decode() == f"{root}:{root}"


OPTIONS = """
set -g destroy-unattached on
set -g remain-on-exit on
set -s exit-unattached on
set -g default-command 'exit 3'
set -g default-shell /bin/false
set -g base-index 5
set -g pane-base-index 5
set -g renumber-windows on
set -g set-titles on
set -g allow-rename on
set -g automatic-rename on
set -g update-environment 'PATH'
set -g lock-after-time 1
set-environment -g PYTHONHOME /nowhere
"""
KILLING = """
set-hook -g session-created 'kill-session'
set-hook -g window-linked 'kill-window'
set-hook -g after-new-window 'kill-window'
set-hook -g after-set-option 'display-message hello'
"""
RENAMING = """
set-hook -g session-created 'rename-session mine'
set-hook -g window-linked 'rename-window mine'
"""
AT_ONCE = "set-hook -g after-new-session[3] 'kill-session'\n"
SPLITTING = "set-hook -g after-new-session 'split-window ; new-window ; rename-session \"a; b\"'\n"


@needs_tmux
@pytest.mark.parametrize(
    ("lines", "runs_before"),
    [
        (OPTIONS + KILLING + AT_ONCE, False),
        (OPTIONS + KILLING, True),
        (RENAMING + SPLITTING, True),
    ],
    ids=["a fresh server", "a running server", "hooks that rename"],
)
def test_a_persons_tmux_configuration_does_not_matter(
    project: Project, tmp_path: Path, lines: str, runs_before: bool
) -> None:
    """The sweep is made, its sessions close at the end, and the person's hooks are as before."""
    project.environment["HOME"] = str(tmp_path)
    configuration = tmp_path / ".tmux.conf"
    if runs_before:
        # A session that stays: the server of one who has these options has somebody looking at it.
        configuration.write_text("set -s exit-empty off")
        begin = ("new-session", "-d", "-s", "keep", "sleep 99")
        tmux(project, *begin, ";", "set", "destroy-unattached", "off", HOME=str(tmp_path))
        configuration.write_text(lines.replace("set -s exit-unattached on", ""))
        tmux(project, "source-file", str(configuration))
        before = tmux(project, "show-hooks", "-g")
    else:
        configuration.write_text(lines)
    project.write(model={"seconds": 0.3})
    finished = project.sweep("launch", "experiments/x.yaml", "--only", "prompt=0")
    assert "1 worker started" in finished.err, finished.err
    names = tmux(project, "list-sessions", "-F", "#S").split()
    assert {"x_gpu0_proc0", "x_main"} <= set(names)
    wait_for(lambda: project.progress()["done"] == 3)
    wait_for(lambda: "x_" not in tmux(project, "list-sessions", "-F", "#S"))
    if runs_before:
        assert tmux(project, "show-hooks", "-g") == before
        assert "keep" in tmux(project, "list-sessions", "-F", "#S")


BROKEN = """
import os, sys
if {module!r} in sys.orig_argv:
    os.write(2, b"ImportError: libcudart.so.12: cannot open shared object file\\n")
    os._exit(2)
"""


@pytest.mark.parametrize("launcher", ["local", pytest.param("tmux", marks=needs_tmux)])
def test_a_launch_that_fails_names_its_reason(
    project: Project, tmp_path: Path, launcher: str
) -> None:
    """What the slot said before it had a log of its own, and what a worker said at last."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(module="runner.slots.slot"))
    before = os.environ.get("PYTHONPATH")
    project.environment["PYTHONPATH"] = f"{tmp_path}:{before}" if before else str(tmp_path)
    words = ("launch", "experiments/x.yaml", "--on", launcher)
    refused = project.sweep(*words)
    assert refused.status == 1
    log = project.run_folder.log(Slot.of(0, 0))
    told = "did not come up: ImportError: libcudart.so.12: cannot open shared object file"
    assert f"x_gpu0_proc0 {told}; see {log}" in refused.err
    if launcher == "tmux":
        return
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(module="runner.worker"))
    refused = project.sweep(*words, "--wait")
    assert refused.status == 1
    assert "has not ended: gpu0_process0: ImportError: libcudart.so.12" in refused.err
    (tmp_path / "sitecustomize.py").write_text("")
    mended = project.sweep(*words, "--wait")
    assert (mended.status, "ImportError" in mended.err) == (0, False)


@needs_tmux
def test_a_launch_that_never_began_names_no_log(project: Project) -> None:
    """tmux itself refuses, so nothing was written."""
    project.environment["SWEEP_TMUX_SOCKET"] = "no/such/socket"
    refused = project.sweep("launch", "experiments/x.yaml")
    assert refused.status == 2
    assert "tmux could not start the session x_gpu0_proc0: " in refused.err
    assert "No such file" in refused.err
    assert ".log" not in refused.err
