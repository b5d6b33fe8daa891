"""Lesson 54's helpers: no process is left, no slot breaks, and each attack has its exception."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from tuf.api import exceptions
from tuf.api.metadata import MetaFile, Timestamp
from tuf.api.serialization import DeserializationError

from helpers import power_cut, slots
from helpers.power_loss import after_a_cut
from helpers.serving import ENDLESS, Serving
from helpers.slots import SlotError, Step
from helpers.tuf_repository import Device, Repository, signer

ROOT = Path(__file__).resolve().parent.parent
lesson = definitions("54_model_updates")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
OLD, NEW = b"old" * 3000, b"new" * 3000


# --- a server that ends with its owner ---------------------------------------------------------


def gone(pid, seconds=10):
    """Is the process (not ours to wait for) no longer running?"""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "\nState:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def test_a_folder_is_served_until_the_block_ends(tmp_path):
    (tmp_path / "x").write_bytes(b"12")
    with Serving(tmp_path) as first, Serving(tmp_path) as second:
        assert first.port != second.port
        assert OPENER.open(f"{first.url}/x", timeout=5).read() == b"12"
    assert not first.running and not second.running
    first.stop()  # once more does no harm


def test_a_server_ends_when_its_block_is_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), Serving(tmp_path) as server:
        raise KeyboardInterrupt
    assert not server.running


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_an_interrupted_cell_finds_its_server_again(tmp_path):
    (tmp_path / "x").write_bytes(b"12")
    with Serving(tmp_path) as server:
        os.kill(server.pid, signal.SIGINT)
        time.sleep(0.3)
        assert OPENER.open(f"{server.url}/x", timeout=5).read() == b"12"


def test_an_endless_file_does_not_end(tmp_path):
    (tmp_path / "x").write_bytes(b"12")
    (tmp_path / f"x{ENDLESS}").touch()
    with Serving(tmp_path) as server, OPENER.open(f"{server.url}/x", timeout=5) as answer:
        assert answer.read(200_000) == b"12" + bytes(199_998)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_with_its_owner(tmp_path, how):
    code = "import sys, time; from helpers.serving import Serving; s = Serving(sys.argv[1]); "
    code += "print(s.pid, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as p:
        pid = int(p.stdout.readline())
        p.send_signal(how)
    assert gone(pid)


def test_what_is_no_folder_is_not_served(tmp_path):
    with pytest.raises(NotADirectoryError, match="make it before"):
        Serving(tmp_path / "none")


# --- The Update Framework ------------------------------------------------------------------------

KEYS = {"root": [signer(1), signer(2)], "targets": [signer(3)]}
KEYS |= {"snapshot": [signer(4)], "timestamp": [signer(5)]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A served repository in two states, and serve(state)."""
    folder = tmp_path_factory.mktemp("shop")
    site = folder / "site"
    repository = Repository(site, KEYS)
    for version, content in ((1, OLD), (2, NEW)):
        repository.publish({"model": content})
        shutil.copytree(site, folder / str(version))
    with Serving(site) as server:

        def serve(state):
            shutil.rmtree(site)
            shutil.copytree(folder / state, site)

        yield site, server, serve, repository.root()


def robber(site, *roles):
    return Repository.opened(site, {r: KEYS[r] if r in roles else [signer(66)] for r in KEYS})


def online(site):
    robber(site, "snapshot", "timestamp").publish({"model": b"evil"})


def one_root_key(site):
    thief = robber(site, "targets", "snapshot", "timestamp")
    thief.replace_keys("targets", [signer(66)], signed_by=[signer(1), signer(66)])
    thief.publish({"model": b"evil"})


def expired(site):
    owner = Repository.opened(site, KEYS)
    owner.lasts["timestamp"] = -1
    owner.renew()


def wrong_snapshot(site):
    thief = robber(site, "timestamp")
    thief.sign("timestamp", Timestamp(version=9, snapshot_meta=MetaFile(version=3)))


def damaged(site):
    path = site / "metadata" / "targets.json"
    path.write_bytes(path.read_bytes()[:-40])


ATTACKS = {
    "changed": (
        lambda site: (site / "targets/model").write_bytes(b"old" + NEW[3:]),
        exceptions.LengthOrHashMismatchError,
    ),
    "truncated": (
        lambda site: (site / "targets/model").write_bytes(NEW[:-1]),
        exceptions.LengthOrHashMismatchError,
    ),
    "endless": (
        lambda site: (site / f"targets/model{ENDLESS}").touch(),
        exceptions.DownloadLengthMismatchError,
    ),
    "endless metadata": (
        lambda site: (site / f"metadata/timestamp.json{ENDLESS}").touch(),
        exceptions.DownloadLengthMismatchError,
    ),
    "online keys": (online, exceptions.UnsignedMetadataError),
    "one root key": (one_root_key, exceptions.UnsignedMetadataError),
    "expired": (expired, exceptions.ExpiredMetadataError),
    "mixed": (wrong_snapshot, exceptions.BadVersionNumberError),
    "damaged metadata": (damaged, DeserializationError),
    "missing": (
        lambda site: (site / "metadata/snapshot.json").unlink(),
        exceptions.DownloadHTTPError,
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_has_its_exception(shop, tmp_path, name):
    site, server, serve, root = shop
    attack, expected = ATTACKS[name]
    serve("2")
    attack(site)
    with pytest.raises((exceptions.RepositoryError, exceptions.DownloadError)) as caught:
        Device(tmp_path, root).update(server.url, "model")
    assert caught.type is expected
    serve("2")
    assert Device(tmp_path / "other", root).update(server.url, "model") == [NEW]


def test_a_rollback_is_refused_by_who_remembers(shop, tmp_path):
    _, server, serve, root = shop
    device = Device(tmp_path / "old", root)
    for state, content in (("1", OLD), ("2", NEW)):
        serve(state)
        assert device.update(server.url, "model") == [content]
    serve("1")
    with pytest.raises(exceptions.BadVersionNumberError, match="must be >= 2"):
        device.update(server.url, "model")
    assert Device(tmp_path / "new", root).update(server.url, "model") == [OLD]


def test_a_high_version_locks_the_owner_out_until_the_key_is_replaced(shop, tmp_path):
    site, server, serve, root = shop
    serve("2")
    device = Device(tmp_path, root)
    high = Timestamp(version=99, snapshot_meta=MetaFile(version=2))
    robber(site, "timestamp").sign("timestamp", high)
    assert device.update(server.url, "model") == [NEW] and device.trusted("timestamp") == 99
    serve("2")
    with pytest.raises(exceptions.BadVersionNumberError):
        device.update(server.url, "model")
    owner = Repository.opened(site, KEYS)
    owner.replace_keys("timestamp", [signer(15)])
    owner.renew()
    assert device.update(server.url, "model") == [NEW]


def test_a_server_that_is_gone_is_named(tmp_path):
    repository = Repository(tmp_path / "site", KEYS)
    with Serving(tmp_path / "site") as server:
        pass
    device = Device(tmp_path / "device", repository.root())
    with pytest.raises(exceptions.DownloadError, match="no server answers at http"):
        device.update(server.url, "model")
    assert device.trusted("timestamp") == 0


def test_bad_input_is_refused_by_name(shop, tmp_path):
    _, server, serve, root = shop
    serve("2")
    with pytest.raises(LookupError, match="has no names"):
        Device(tmp_path / "device", root).update(server.url, "names")
    with pytest.raises(ValueError, match="give each of"):
        Repository(tmp_path / "x", {"root": [signer(1)]})
    with pytest.raises(ValueError, match="holds no root metadata"):
        Repository.opened(tmp_path / "none", KEYS)
    for seed in (-1, 2**64, True, 1.0):
        with pytest.raises(ValueError, match="whole number"):
            signer(seed)


# --- slots ---------------------------------------------------------------------------------------


class Cut(Exception):
    """The device stops here."""


def cycle(folder, content):
    slots.perform(slots.update(folder, content), folder)
    slots.confirm(folder, slots.boot(folder)[0])


def test_a_cut_at_each_step_of_a_whole_cycle_leaves_old_or_new(tmp_path, monkeypatch):
    """Also in boot and confirm, also when it happens twice, and then an update still succeeds."""
    perform, found = slots.perform, set()
    for at in range(60):
        folder, left = tmp_path / str(at), [at]
        slots.install(folder, OLD)

        def before(_, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Cut

        def cut(steps, folder, before=before):
            perform(steps, folder, before)

        with monkeypatch.context() as patch:
            patch.setattr(slots, "perform", cut)
            try:
                cycle(folder, NEW)
                done = True
            except Cut:
                done = False
        content = slots.boot(folder)[1]
        assert content in (OLD, NEW)
        found.add(content)
        cycle(folder, b"third")
        assert slots.boot(folder)[1] == b"third"
        if done:
            break
    assert done and at > 10 and found == {OLD, NEW}


def test_a_process_that_kills_itself_at_each_step_leaves_old_or_new(tmp_path):
    found, folder = [], tmp_path / "slots"
    slots.install(folder, OLD)
    count = len(slots.update(folder, NEW))
    for at in range(count):
        shutil.rmtree(folder)
        slots.install(folder, OLD)
        killed = slots.kill_during(slots.update(folder, NEW), folder, at=at)
        assert killed.killed and killed.begun == at
        found.append(slots.boot(folder)[1])
    assert set(found) <= {OLD, NEW} and found[0] == OLD


def test_a_child_that_nobody_kills_is_done(tmp_path):
    slots.install(tmp_path, OLD)
    steps = slots.update(tmp_path, NEW)
    killed = slots.kill_during(steps, tmp_path)
    assert not killed.killed and killed.begun == len(steps)
    assert slots.boot(tmp_path) == ("b", NEW)
    with pytest.raises(ValueError, match="one of the two"):
        slots.kill_during(steps, tmp_path, after=0.1, at=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_interrupt_leaves_no_child(tmp_path, monkeypatch):
    children = []
    popen = subprocess.Popen

    def remembered(*arguments, **options):
        children.append(popen(*arguments, **options))
        return children[-1]

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slots.subprocess, "Popen", remembered)
    monkeypatch.setattr(slots.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slots.kill_during([Step("write", "m", b"x", first=True)] * 2000, tmp_path, after=1)
    monkeypatch.undo()
    assert gone(children[0].pid)


def test_a_trial_ends_after_its_tries(tmp_path):
    slots.install(tmp_path, OLD)
    slots.perform(slots.update(tmp_path, NEW), tmp_path)
    assert [slots.boot(tmp_path)[0] for _ in range(4)] == ["b", "b", "a", "a"]


@pytest.mark.parametrize("damage", [b"", OLD[:100], b"x" + NEW[1:]])
def test_a_damaged_slot_is_never_loaded(tmp_path, damage):
    slots.install(tmp_path, OLD)
    slots.perform(slots.update(tmp_path, NEW), tmp_path)
    (tmp_path / "b").write_bytes(damage)
    assert slots.boot(tmp_path) == ("a", OLD)
    (tmp_path / "a").write_bytes(damage)
    with pytest.raises(SlotError, match="not what its digest says"):
        slots.boot(tmp_path)


@pytest.mark.parametrize(
    "state", [b"", b"{", b"[]", b'{"running": "c"}', b'{"running": "a"}', None]
)
def test_a_damaged_state_is_named(tmp_path, state):
    if state is not None:
        (tmp_path / "state").write_bytes(state)
    with pytest.raises(SlotError, match="state of the slots"):
        slots.boot(tmp_path)


def test_only_a_slot_that_may_run_is_confirmed(tmp_path):
    slots.install(tmp_path, OLD)
    with pytest.raises(SlotError, match="neither runs nor"):
        slots.confirm(tmp_path, "b")
    with pytest.raises(ValueError, match="no step is called"):
        slots.perform([Step("jump")], tmp_path)


# --- power ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=9000), st.binary(min_size=1, max_size=9000))
def test_in_the_model_a_durable_rename_leaves_old_or_new(old, new):
    steps = slots.durably("m", new)
    cuts = after_a_cut({"m": old}, steps)
    assert {cut["m"] for cut in cuts} == {old, new}


@pytest.mark.parametrize("left_out", ["sync", "sync folder"])
def test_in_the_model_each_sync_has_its_use(left_out):
    steps = [step for step in slots.durably("m", NEW) if step.do != left_out]
    found = {cut["m"] for cut in after_a_cut({"m": OLD}, steps)}
    if left_out == "sync":
        assert b"" in found
    else:  # never broken, but never certain: the last cut may still leave the old one
        assert found == {OLD, NEW}


def test_an_image_shows_what_the_sync_is_for():
    if power_cut.missing():
        pytest.skip(power_cut.missing())
    steps = slots.durably("m", NEW)
    bare = [step for step in steps if step.do != "sync"]
    found = [cut["m"] for cut in power_cut.after_each_step({"m": OLD}, steps, "noauto_da_alloc")]
    assert set(found) == {OLD, NEW} and found[-1] == NEW
    found = [cut["m"] for cut in power_cut.after_each_step({"m": OLD}, bare, "noauto_da_alloc")]
    assert found[-1] not in (OLD, NEW)


def test_where_no_image_can_be_mounted_it_is_said(monkeypatch):
    monkeypatch.setattr(power_cut.sys, "platform", "darwin")
    assert "on Linux only" in power_cut.missing()
    monkeypatch.setattr(power_cut.sys, "platform", "linux")
    monkeypatch.setattr(power_cut.os, "geteuid", lambda: 1000, raising=False)
    assert "takes root" in power_cut.missing()


# --- the lesson's own functions ------------------------------------------------------------------


OURS = Ed25519PrivateKey.generate()
lesson.__globals__.update(ours=OURS, known={"factory": OURS.public_key()})


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_signed_manifest_lets_no_other_file_through(content, drawn):
    letter = lesson.letter_about(content, 1)
    assert lesson.verified(letter, content)["version"] == 1
    place = drawn.draw(st.integers(0, len(content) - 1))
    other = bytearray(content)
    other[place] ^= drawn.draw(st.integers(1, 255))
    with pytest.raises(lesson.Refused, match="not the one"):
        lesson.verified(letter, bytes(other))
    with pytest.raises(lesson.Refused, match="bytes of"):
        lesson.verified(letter, content[:-1])


@given(st.data())
def test_a_difference_brings_the_new_file_back(drawn):
    size = drawn.draw(st.integers(1, 300))
    old, new = (drawn.draw(st.binary(min_size=size, max_size=size)) for _ in range(2))
    assert lesson.rebuilt(old, lesson.difference(old, new)) == new
