"""F36, F37, F40, F41: bad files, full disks, forbidden folders, and what survives a power loss."""

from __future__ import annotations

import errno
import logging
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import disks
from fixtures.forks import exit_code, fork
from fixtures.processes import SOURCE
from fixtures.queues import drain, files, fill, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import FolderFailed, FolderRefused, Queue
from turbo_queue.safe_folders import filesystem_of

NAME = "ready_1795246802_01a1fd0c-474b-7000-9dc1-1d57d656d3{:02x}.db"


def bad_files(queue: Queue) -> set[str]:
    return {name for name in os.listdir(queue.path / "bad") if not name.endswith(".reason.txt")}


def test_foreign_files_of_every_kind_are_set_aside(
    queue: Queue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill_in_batches(queue, range(50))
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.write_text("somebody's")
    foreign = [queue.path / NAME.format(number) for number in range(9)]
    foreign[0].write_text("this is text")
    foreign[1].write_bytes(b"")
    foreign[2].mkdir()
    os.mkfifo(foreign[3])
    foreign[4].symlink_to(elsewhere)
    foreign[5].symlink_to(tmp_path / "nowhere")
    foreign[6].hardlink_to(elsewhere)
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(queue.path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/{foreign[7].name}")
        os.close(folder)
    foreign[8].write_bytes(b"SQLite format 3\0" + b"\0" * 5000)
    strange = [queue.path / name for name in ("ready_README.txt", "ready_1_2.db", "ready_")]
    for path in strange:
        path.write_text("?")
    harmless = queue.path / "README.txt"
    harmless.write_text("about this queue")
    fill_in_batches(queue, range(50, 100))

    with caplog.at_level(logging.WARNING, "turbo_queue"):
        assert sorted(drain(queue)) == list(range(100))

    found = {name.removeprefix("chosen_").removeprefix("ready_") for name in bad_files(queue)}
    assert found == {path.name.removeprefix("ready_") for path in (*foreign, *strange)}
    assert len([r for r in caplog.records if "set aside" in r.message]) == len(found)
    assert harmless.exists()
    assert elsewhere.read_text() == "somebody's"


@pytest.mark.parametrize("state", ["loading", "chosen"])
def test_foreign_files_in_other_states_are_set_aside_by_recovery(queue: Queue, state: str) -> None:
    fill(queue, [1])
    text = queue.path / NAME.format(1).replace("ready", state)
    text.write_text("this is text")
    (queue.path / f"{state}_nonsense").write_text("?")

    recovered = queue.recover()

    assert recovered.set_aside == 2
    assert bad_files(queue) == {text.name, f"{state}_nonsense"}


def test_files_of_one_name_are_both_kept(queue: Queue) -> None:
    fill(queue, [])
    for _ in range(3):
        (queue.path / "ready_README.txt").write_text("?")
        assert drain(queue) == []

    assert len(bad_files(queue)) == 3


EVENTS = [f"{number} {'x' * 200}" for number in range(100)]


@pytest.fixture
def good_batch(queue: Queue) -> bytes:
    """A batch of 100 events, as its file has it."""
    fill_in_batches(queue, EVENTS)
    (path,) = files(queue)
    data = path.read_bytes()
    path.unlink()
    return data


def delivered(queue: Queue, data: bytes) -> list[str]:
    (queue.path / NAME.format(1)).write_bytes(data)
    return drain(queue)


def test_a_batch_cut_at_any_of_64_points_is_never_half_delivered(
    queue: Queue, good_batch: bytes
) -> None:
    points = [len(good_batch) * cut // 64 for cut in range(64)]

    for point in points:
        assert delivered(queue, good_batch[:point]) == []

    assert len(bad_files(queue)) == 64
    assert delivered(queue, good_batch) == EVENTS


def test_a_flipped_bit_is_harmless_or_seen(queue: Queue, good_batch: bytes, seed: int) -> None:
    """1,000 batches with one flipped bit: each is delivered as it was, or set aside as a whole."""
    bits = random.Random(seed)
    print(f"seed {seed}")
    # The progress may say that the first events are finished: those four bytes are left alone.
    places = [*range(60), *range(64, len(good_batch))]
    seen = 0
    for _ in range(1000):
        data = bytearray(good_batch)
        place = bits.choice(places)
        data[place] ^= 1 << bits.randrange(8)
        events = delivered(queue, bytes(data))
        assert events in ([], EVENTS), place
        seen += not events
    assert seen == len(bad_files(queue))
    assert seen > 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize("together", [True, False])
def test_a_full_disk_loses_nothing_and_works_again(small_disk: Path, together: bool) -> None:
    queue = Queue(small_disk / "queue", max_events_per_file=500)
    put: list[str] = []
    with queue.producer() as producer:
        for number in range(100_000):
            event = f"{number:06d}" + "x" * 100
            try:
                if together:
                    producer.put_many([event])
                else:
                    producer.put(event)
            except FolderFailed as error:
                failure = error
                break
            put.append(event)
        assert failure.errno == errno.ENOSPC
        assert str(queue.path) in str(failure)
        with pytest.raises(FolderFailed, match="No space left"):
            producer.flush()

        got = drain(queue)
        assert got == put[: len(got)]
        producer.put(event)
        put.append(event)

    assert got + drain(queue) == put
    assert queue.stats().bad_files == 0


def test_a_full_disk_that_is_freed_is_written_to_without_being_asked(small_disk: Path) -> None:
    queue = Queue(small_disk / "queue", max_batch_age=0.2)
    filler = small_disk / "filler"
    with queue.producer() as producer:
        producer.put("first")
        filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 4096))
        with pytest.raises(FolderFailed):
            producer.put("x" * 100_000)
            producer.flush()
        filler.unlink()
        producer.put("second")

        eventually(lambda: list(queue.peek())[-1:] == ["second"])


def test_dead_owners_batches_are_given_back_on_a_full_disk(small_disk: Path) -> None:
    queue = Queue(small_disk / "queue")
    fill(queue, [1, 2, 3])
    assert exit_code(fork(lambda: queue.consumer().get())) == 0
    assert len(files(queue, "chosen_")) == 1
    (small_disk / "filler").write_bytes(b"x" * shutil.disk_usage(small_disk).free)

    assert drain(queue) == [1, 2, 3]


def run(program: str, queue: Queue, before: object = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, str(queue.path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=before,  # type: ignore[arg-type]
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_limit_of_file_sizes_is_a_clear_error(queue: Queue) -> None:
    output = run(
        """
import sys, turbo_queue
queue = turbo_queue.Queue(sys.argv[1], max_batch_age=3600)
with queue.producer() as producer:
    producer.put("small")
    producer.put("second")
    try:
        producer.put_many(["x" * 100_000])
        producer.flush()
    except turbo_queue.FolderFailed as error:
        print(error)
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))
""",
        queue,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 10**9)),
    )

    assert "File too large" in output
    assert drain(queue)[:2] == ["small", "second"]


def test_no_descriptors_left_is_a_clear_error(queue: Queue) -> None:
    fill(queue, range(10))
    output = run(
        """
import os, sys, turbo_queue
queue = turbo_queue.Queue(sys.argv[1], max_events_per_file=10)
with queue.producer() as producer, queue.consumer() as consumer:
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for use in (consumer.get, lambda: producer.put_many(range(100, 120))):
        try:
            use()
        except turbo_queue.FolderFailed as error:
            print(error.errno, error)
    for descriptor in taken:
        os.close(descriptor)
    producer.put_many(range(10, 30))
    producer.flush()
    print([consumer.get(timeout=5) for _ in range(30)] == list(range(30)))
""",
        queue,
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )

    assert output.count(f"{errno.EMFILE} ") == 2
    assert output.endswith("True\n")


def test_a_folder_that_may_not_be_written_is_a_clear_error(queue: Queue) -> None:
    """As an unprivileged user, because root may write everywhere."""
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    output = run(
        """
import os, sys, turbo_queue
queue = turbo_queue.Queue(sys.argv[1])
os.mkdir(queue.path, 0o700)
os.chown(queue.path, 65534, 65534)
os.chmod(queue.path.parent, 0o755)
for parent in list(queue.path.parents)[:-1]:
    os.chmod(parent, os.stat(parent).st_mode | 0o055)
os.setegid(65534); os.seteuid(65534)
os.getuid = os.geteuid
with queue.producer() as producer:
    producer.put(1)
    producer.put(2)
    os.chmod(queue.path, 0o500)
    for use in (producer.flush, lambda: turbo_queue.Queue(queue.path / "inner").producer()):
        try:
            use()
        except turbo_queue.FolderFailed as error:
            print(error.errno, error)
    os.chmod(queue.path, 0o700)
with queue.consumer(stop_when_empty=True) as consumer:
    print(list(consumer))
""",
        queue,
    )

    assert output.count(f"{errno.EACCES} ") == 2
    assert output.endswith("[1, 2]\n")


def test_unsafe_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("?")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)

    for name, reason in (
        ("file", "it is a link or a file"),
        ("open", "other users may write to it; use 'chmod 700'"),
        ("link", "it is a link or a file"),
    ):
        with pytest.raises(FolderRefused, match=reason):
            Queue(tmp_path / name).producer()


def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("giving a folder away needs root")
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, 12345)

    with pytest.raises(FolderRefused, match="belongs to another user"):
        Queue(tmp_path / "theirs").consumer()


def test_network_file_systems_are_known_by_their_mounts() -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "40 22 0:51 / /data rw,relatime shared:1 - nfs4 server:/data rw,vers=4.2\n"
    )

    assert filesystem_of(os.makedev(0, 51), mounts) == "nfs4"
    assert filesystem_of(os.makedev(8, 1), mounts) == "ext4"
    assert filesystem_of(os.makedev(9, 9), mounts) is None


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_that_names_no_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="must name a folder"):
        Queue(path)


def test_four_producers_keep_their_order(queue: Queue) -> None:
    """F40: 4 producers x 50,000 events, one consumer."""

    def put(index: int) -> None:
        with Queue(queue.path, max_events_per_file=777).producer() as producer:
            producer.put_many([index, number] for number in range(50_000))

    children = [fork(lambda index=index: put(index)) for index in range(4)]
    assert [exit_code(child) for child in children] == [0] * 4

    seen: list[list[int]] = [[], [], [], []]
    for index, number in drain(queue):
        seen[index].append(number)
    assert seen == [list(range(50_000))] * 4


def test_with_fsync_a_batch_is_on_disk_before_it_has_its_name(tmp_path: Path) -> None:
    """F41: write, fsync of the file, rename, fsync of the folder, in this order, each time."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; 'apt-get install strace' brings it")
    trace = tmp_path / "trace"
    queue = Queue(tmp_path / "queue")
    program = """
import sys, turbo_queue
with turbo_queue.Queue(sys.argv[1], fsync=True, max_events_per_file=10).producer() as producer:
    for number in range(100):
        producer.put(number)
        producer.flush()
"""
    calls = "trace=rename,renameat,renameat2,fsync,fdatasync,pwrite64"
    subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", calls, sys.executable, "-c", program, queue.path],
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )

    steps = []
    for line in trace.read_text().splitlines():
        call = line.split()[1].partition("(")[0]
        name = line.partition(str(queue.path))[2]
        if call == "pwrite64" and name.startswith("/loading_"):
            steps.append("write")
        elif call == "fsync":
            steps.append("sync file" if name.startswith("/loading_") else "sync folder")
        elif call.startswith("rename"):
            steps.append("rename")
    assert steps == ["write", "sync file", "rename", "sync folder"] * 100
    assert drain(queue) == list(range(100))


def test_a_peek_at_a_batch_that_the_disk_cannot_read_names_the_file(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; 'apt-get install strace' brings it")
    queue = Queue(tmp_path / "queue")
    fill(queue, [1])
    (batch,) = files(queue)
    program = """
import sys, turbo_queue
try:
    list(turbo_queue.Queue(sys.argv[1]).peek())
except turbo_queue.FolderFailed as error:
    print(error)
"""

    fails = ["strace", "-f", "-o", "/dev/null", "-P", batch, "-e", "inject=pread64:error=EIO"]
    seen = subprocess.run(
        [*fails, sys.executable, "-c", program, queue.path],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        text=True,
    )

    assert "reading a batch failed: Input/output error" in seen.stdout
    assert str(batch) in seen.stdout
