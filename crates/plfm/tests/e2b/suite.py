"""What programs written for E2B do, done with the official SDK against a fresh `plfm dev`.

Each check is a function; its name is what the conformance matrix shows. Prints one line for each: `ok NAME` or `failed NAME: WHY`.
"""

import sys
import time
import traceback

import e2b
from e2b import CommandExitException, Sandbox

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def refuses(exception, call):
    try:
        call()
    except exception as error:
        return error
    raise AssertionError(f"no {exception.__name__}")


@check
def sandbox_create(box):
    info = box.get_info()
    assert info.sandbox_id == box.sandbox_id and info.metadata == {"who": "a b", "x&y": "z=1"}
    assert info.end_at > info.started_at
    assert box.is_running()


@check
def sandbox_list(box):
    pages = Sandbox.list()
    listed = pages.next_items()
    assert box.sandbox_id in [it.sandbox_id for it in listed] and not pages.has_next
    query = e2b.SandboxQuery(metadata={"who": "a b", "x&y": "z=1"})
    assert [it.sandbox_id for it in Sandbox.list(query=query).next_items()] == [box.sandbox_id]
    none = e2b.SandboxQuery(metadata={"who": "b"})
    assert Sandbox.list(query=none).next_items() == []


@check
def sandbox_connect(box):
    again = Sandbox.connect(box.sandbox_id)
    assert again.commands.run("echo again").stdout == "again\n"


@check
def sandbox_timeout(box):
    box.set_timeout(240)
    left = box.get_info().end_at.timestamp() - time.time()
    assert 200 < left < 245, left


@check
def sandbox_unknown(_box):
    refuses(e2b.NotFoundException, lambda: Sandbox.connect("01arz3ndektsv4rrffq69g5fav"))
    assert Sandbox.kill("01arz3ndektsv4rrffq69g5fav") is False
    error = refuses(e2b.SandboxException, lambda: Sandbox.create("no-such-template"))
    assert "no-such-template" in str(error)


@check
def commands_run(box):
    done = box.commands.run('echo "hello $NAME"; pwd')
    assert done.exit_code == 0 and done.stdout == "hello ada\n/home/user\n", done
    failed = refuses(CommandExitException, lambda: box.commands.run("echo bad >&2; exit 3"))
    assert failed.exit_code == 3 and failed.stderr == "bad\n"


@check
def commands_user_and_directory(box):
    assert box.commands.run("id -un").stdout == "user\n"
    assert box.commands.run("id -un", user="root").stdout == "root\n"
    assert box.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"
    assert box.commands.run("echo $A", envs={"A": "b"}).stdout == "b\n"


@check
def commands_stream(box):
    lines = []
    box.commands.run("echo one; echo two >&2; echo three", on_stdout=lines.append, on_stderr=lines.append)
    assert "".join(sorted(lines)) == "".join(sorted(["one\n", "two\n", "three\n"])) or "".join(lines).count("\n") == 3


@check
def commands_background(box):
    running = box.commands.run("echo begun; exec sleep 1000", background=True)
    assert running.pid in [it.pid for it in box.commands.list()]
    assert box.commands.kill(running.pid) is True
    refuses(CommandExitException, running.wait)
    assert box.commands.kill(running.pid) is False


@check
def commands_stdin(box):
    reads = box.commands.run("head -n 1", background=True, stdin=True)
    box.commands.send_stdin(reads.pid, "typed\n")
    assert reads.wait().stdout == "typed\n"


@check
def commands_timeout(box):
    refuses(e2b.TimeoutException, lambda: box.commands.run("sleep 60", timeout=1))


@check
def files_write_and_read(box):
    box.files.write("notes/a.txt", "hello")
    assert box.files.read("notes/a.txt") == "hello"
    assert box.commands.run("cat /home/user/notes/a.txt").stdout == "hello"
    assert bytes(box.files.read("/home/user/notes/a.txt", format="bytes")) == b"hello"
    big = b"0123456789abcdef" * (1 << 16)
    box.files.write("big.bin", big)
    assert bytes(box.files.read("big.bin", format="bytes")) == big
    refuses(e2b.NotFoundException, lambda: box.files.read("none.txt"))


@check
def files_directories(box):
    assert box.files.make_dir("tree/leaf") is True and box.files.make_dir("tree/leaf") is False
    box.files.write("tree/b.txt", "b")
    names = sorted(entry.name for entry in box.files.list("tree"))
    assert names == ["b.txt", "leaf"], names
    assert box.files.exists("tree/b.txt") and not box.files.exists("tree/c.txt")
    info = box.files.get_info("tree/b.txt")
    assert (info.size, info.owner, info.path) == (1, "user", "/home/user/tree/b.txt"), info
    moved = box.files.rename("tree/b.txt", "tree/c.txt")
    assert moved.path == "/home/user/tree/c.txt" and not box.files.exists("tree/b.txt")
    box.files.remove("tree")
    assert not box.files.exists("tree")


@check
def pty(box):
    from e2b import PtySize

    seen = []
    terminal = box.pty.create(PtySize(rows=24, cols=80))
    box.pty.send_stdin(terminal.pid, b"echo $((6 * 7)); exit\n")
    terminal.wait(on_pty=lambda data: seen.append(bytes(data)))
    assert b"42" in b"".join(seen)


@check
def ports(box):
    import httpx
    import ssl

    box.commands.run("mkdir -p www && echo served > www/index.html")
    box.commands.run("exec busybox httpd -f -p 127.0.0.1:8000 -h www", background=True)
    headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "8000"}
    context = ssl.create_default_context()
    import os

    url = os.environ["E2B_SANDBOX_URL"]
    for _ in range(50):
        answer = httpx.get(url + "/", headers=headers, verify=context)
        if answer.status_code == 200:
            break
        time.sleep(0.2)
    assert answer.text == "served\n", answer.text
    closed = httpx.get(url + "/", headers={**headers, "E2b-Sandbox-Port": "8001"}, verify=context)
    assert closed.status_code == 502 and "port is not open" in closed.text, closed.text


@check
def sandbox_pause(box):
    box.files.write("/home/user/kept", "as it was")
    counter = box.commands.run("sleep 1000", background=True)
    boot_id = box.files.read("/proc/sys/kernel/random/boot_id")
    assert box.pause() is True
    assert box.pause() is False, "it is paused already"
    info = Sandbox.get_info(box.sandbox_id)
    assert info.state == e2b.SandboxState.PAUSED and info.metadata == {"who": "a b", "x&y": "z=1"}
    paused = e2b.SandboxQuery(state=[e2b.SandboxState.PAUSED])
    assert [it.sandbox_id for it in Sandbox.list(query=paused).next_items()] == [box.sandbox_id]
    assert box.is_running() is False
    again = Sandbox.connect(box.sandbox_id, timeout=300)
    assert again.is_running()
    assert again.files.read("/home/user/kept") == "as it was"
    assert again.files.read("/proc/sys/kernel/random/boot_id") == boot_id, "the same boot"
    assert counter.pid in [it.pid for it in again.commands.list()], "its processes go on"
    assert abs(float(again.commands.run("busybox date +%s").stdout) - time.time()) < 10
    assert box.commands.run("echo $NAME").stdout == "ada\n", "with the token it had"
    assert 200 < again.get_info().end_at.timestamp() - time.time() < 305


@check
def sandbox_pauses_at_its_end(box):
    brief = Sandbox.create("base", timeout=2, lifecycle={"on_timeout": "pause"})
    until = time.time() + 60
    while Sandbox.get_info(brief.sandbox_id).state != e2b.SandboxState.PAUSED:
        assert time.time() < until, "it is not paused"
        time.sleep(0.2)
    brief.connect(timeout=300)
    assert brief.commands.run("echo on").stdout == "on\n"
    assert brief.kill() is True


@check
def sandbox_fork(box):
    box.files.write("/home/user/forked", "as it was")
    alive = box.commands.run("sleep 1000", background=True)
    forks = box.fork(timeout=120, count=2)
    assert len(forks) == 2 and all(isinstance(fork, Sandbox) for fork in forks), forks
    ids = {box.sandbox_id} | {fork.sandbox_id for fork in forks}
    assert len(ids) == 3, ids
    for fork in forks:
        assert fork.files.read("/home/user/forked") == "as it was"
        assert alive.pid in [process.pid for process in fork.commands.list()]
        told = fork.commands.run("echo $E2B_SANDBOX_ID $NAME").stdout.split()
        assert told == [fork.sandbox_id, "ada"], told
        left = fork.get_info().end_at.timestamp() - time.time()
        assert left < 125, left
        fork.files.write("/home/user/forked", fork.sandbox_id)
    assert [fork.files.read("/home/user/forked") for fork in forks] == [fork.sandbox_id for fork in forks]
    assert box.files.read("/home/user/forked") == "as it was"
    uuids = {one.files.read("/proc/sys/kernel/random/uuid") for one in [box, *forks]}
    assert len(uuids) == 3, uuids
    assert alive.kill() is True
    assert all(fork.kill() for fork in forks)
    refuses(e2b.SandboxException, lambda: Sandbox.fork("nosuchsandbox"))


@check
def sandbox_fork_that_fails(box):
    broken = Sandbox.create("base", timeout=120)
    # Where nothing can be written, no fork can become somebody of its own.
    readonly = "busybox mount -o bind /etc /etc && busybox mount -o remount,ro,bind /etc"
    broken.commands.run(readonly, user="root")
    [failed] = broken.fork(count=1)
    assert isinstance(failed, Exception) and "somebody of its own" in str(failed), failed
    assert len(Sandbox.list().next_items()) == 2, "what is not complete is never there"
    assert broken.commands.run("echo on").stdout == "on\n", "its source goes on"
    assert broken.kill() is True


@check
def snapshots(box):
    box.files.write("/home/user/kept", "then")
    unnamed, named = box.create_snapshot(), box.create_snapshot(name="ready")
    assert named.snapshot_id == "default/ready:default" and unnamed.snapshot_id != named.snapshot_id
    box.files.write("/home/user/kept", "now")
    listed = [it.snapshot_id for it in Sandbox.list_snapshots().next_items()]
    assert listed == [named.snapshot_id, unnamed.snapshot_id], listed
    assert [it.snapshot_id for it in box.list_snapshots().next_items()] == listed
    pages = Sandbox.list_snapshots(limit=1)
    assert [pages.next_items()[0].snapshot_id, pages.next_items()[0].snapshot_id] == listed and not pages.has_next
    for name in [named.snapshot_id, "ready", unnamed.snapshot_id]:
        one = Sandbox.create(name, timeout=120, envs={"NAME": "bob"})
        assert one.files.read("/home/user/kept") == "then"
        assert one.commands.run("echo $NAME").stdout == "bob\n"
        assert one.kill() is True
    assert box.files.read("/home/user/kept") == "now"
    assert Sandbox.delete_snapshot(named.snapshot_id) is True
    assert Sandbox.delete_snapshot(unnamed.snapshot_id) is True
    assert Sandbox.delete_snapshot(named.snapshot_id) is False
    assert Sandbox.list_snapshots().next_items() == []
    refuses(e2b.SandboxException, lambda: Sandbox.create("ready"))


@check
def sandbox_kill(box):
    assert box.kill() is True
    assert box.is_running() is False
    assert Sandbox.kill(box.sandbox_id) is False


def main():
    only = sys.argv[1:]
    box = Sandbox.create("base", timeout=300, metadata={"who": "a b", "x&y": "z=1"}, envs={"NAME": "ada"})
    failed = 0
    for function in CHECKS:
        if only and function.__name__ not in only:
            continue
        try:
            function(box)
            print(f"ok {function.__name__}", flush=True)
        except Exception as error:
            failed += 1
            where = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(where) if frame.filename == __file__), 0)
            print(f"failed {function.__name__}: line {line}: {type(error).__name__}: {error}", flush=True)
    sys.exit(1 if failed else 0)


main()
