"""A repository of The Update Framework (TUF) as its owner keeps it, and a device that reads it.

The owner's half: four roles, their keys, and files that are signed again with each change. It keeps
private keys in memory, which no real owner does with those of root and targets. The device's half
is python-tuf's own client, with a fetcher for servers on this machine.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import urllib3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater

LASTS = {"root": 365 * 86400, "targets": 90 * 86400, "snapshot": 7 * 86400, "timestamp": 86400}


def signer(seed: int) -> CryptoSigner:
    """An Ed25519 key pair that a number names, for examples only: a real one is drawn at random.

    >>> signer(1).public_key.keyid == signer(1).public_key.keyid != signer(2).public_key.keyid
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed!r}: pass a whole number from 0 to 2^64 - 1")
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big")))


class Repository:
    """Signed metadata and targets under `folder`, ready to be served as they lie.

    keys: {role: its signers}, for "root", "targets", "snapshot", "timestamp". Root asks for two
    signatures where it has two keys or more, the others for one. `publish` brings new files,
    `replace_keys` signs a new root. `lasts`: seconds until the metadata of a role expires; change
    an entry before you publish. Versions are read back from the files in the folder.
    """

    def __init__(self, folder: str | Path, keys: Mapping[str, Sequence[CryptoSigner]]):
        if set(keys) != set(LASTS) or not all(keys.values()):
            raise ValueError(f"keys has {sorted(keys)}: give each of {sorted(LASTS)} a signer")
        self.folder = Path(folder)
        for part in ("metadata", "targets"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.keys, self.lasts = {role: list(signers) for role, signers in keys.items()}, dict(LASTS)
        self._root = Root(consistent_snapshot=False)
        self._write_root(self.keys["root"])

    @classmethod
    def opened(cls, folder: str | Path, keys: Mapping[str, Sequence[CryptoSigner]]) -> Repository:
        """What someone with these keys can do to the files in a folder; nothing is written yet."""
        one = cls.__new__(cls)
        one.folder, one.lasts = Path(folder), dict(LASTS)
        one.keys = {role: list(signers) for role, signers in keys.items()}
        roots = (one.folder / "metadata").glob("*.root.json")
        newest = max(roots, key=lambda path: int(path.name.split(".")[0]), default=None)
        if newest is None:
            raise ValueError(f"{folder} holds no root metadata: make the repository first")
        one._root = Metadata.from_bytes(newest.read_bytes()).signed
        return one

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Sign these targets, and no others, in new targets, snapshot and timestamp metadata."""
        targets = {}
        for name, content in files.items():
            (self.folder / "targets" / name).write_bytes(content)
            targets[name] = TargetFile.from_data(name, content)
        self.sign("targets", Targets(version=self.version("targets") + 1, targets=targets))
        self.announce()

    def announce(self) -> None:
        """Sign a snapshot of the targets metadata that is there, and a timestamp."""
        version = self.version("targets")
        meta = {"targets.json": MetaFile(version=version)}
        self.sign("snapshot", Snapshot(version=self.version("snapshot") + 1, meta=meta))
        self.renew()

    def renew(self) -> None:
        """Sign a new timestamp: "this snapshot is still the newest"."""
        meta = MetaFile(version=self.version("snapshot"))
        self.sign("timestamp", Timestamp(version=self.version("timestamp") + 1, snapshot_meta=meta))

    def sign(self, role: str, signed: object) -> None:
        """Write `role`.json, signed with the keys that the role has here."""
        signed.expires = self._expiry(role)
        self._write(f"{role}.json", signed, self.keys[role])

    def replace_keys(self, role: str, signers: Sequence[CryptoSigner], signed_by=None) -> None:
        """A new root with other keys for a role, signed by old and new root keys (or `signed_by`).

        The role's own metadata still has the old signatures: publish, announce or renew it.
        """
        before = self.keys["root"]
        self.keys[role] = list(signers)
        self._root.version += 1
        both = {s.public_key.keyid: s for s in [*before, *self.keys["root"]]}
        self._write_root(list(both.values()) if signed_by is None else signed_by)

    def root(self) -> bytes:
        """The newest root metadata: what a device is built with."""
        return (self.folder / "metadata" / f"{self._root.version}.root.json").read_bytes()

    def version(self, role: str) -> int:
        """Version of the role's metadata in the folder; 0 if there is none."""
        path = self.folder / "metadata" / f"{role}.json"
        return Metadata.from_bytes(path.read_bytes()).signed.version if path.exists() else 0

    def _expiry(self, role: str) -> datetime.datetime:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        return now + datetime.timedelta(seconds=self.lasts[role])

    def _write_root(self, signers: Sequence[CryptoSigner]) -> None:
        for role, keys in self.keys.items():
            for keyid in list(self._root.roles[role].keyids):
                self._root.revoke_key(keyid, role)
            for key in keys:
                self._root.add_key(key.public_key, role)
            self._root.roles[role].threshold = min(len(keys), 2) if role == "root" else 1
        self._root.expires = self._expiry("root")
        self._write(f"{self._root.version}.root.json", self._root, signers)

    def _write(self, name: str, signed: object, signers: Sequence[CryptoSigner]) -> None:
        metadata = Metadata(signed)
        for one in signers:
            metadata.sign(one, append=True)
        metadata.to_file(str(self.folder / "metadata" / name))


class Loopback(FetcherInterface):
    """Fetches from this machine, past any proxy that the environment names; gives up in seconds."""

    def __init__(self, timeout: float = 5.0):
        self._pool, self._timeout = urllib3.PoolManager(retries=False), timeout

    def _fetch(self, url: str):
        try:
            answer = self._pool.request("GET", url, preload_content=False, timeout=self._timeout)
        except urllib3.exceptions.NewConnectionError as error:
            raise DownloadError(f"no server answers at {url}: go on with what you have") from error
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(f"{url}: nothing came for {self._timeout} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: the link broke: {error}") from error
        try:
            if answer.status >= 400:
                raise DownloadHTTPError(f"{url}: status {answer.status}", answer.status)
            yield from answer.stream(4096)
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(f"{url}: nothing came for {self._timeout} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: the link broke: {error}") from error
        finally:
            answer.close()


class Device:
    """What a device keeps between updates, in a folder, and the one thing that it does: `update`.

    root: the root metadata that it was built with. Its clock is this machine's.
    """

    def __init__(self, folder: str | Path, root: bytes):
        self.folder, self._root = Path(folder), root
        for part in ("metadata", "targets"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def update(self, url: str, *names: str) -> list[bytes]:
        """The newest targets of these names; what python-tuf refuses raises its exceptions.

        tuf.api.exceptions.RepositoryError: metadata or a file is not what was signed. DownloadError
        for what did not come, also where no server answers. LookupError: no such target.
        """
        updater = Updater(
            str(self.folder / "metadata"),
            f"{url}/metadata/",
            str(self.folder / "targets"),
            f"{url}/targets/",
            fetcher=Loopback(),
            bootstrap=self._root,
        )
        updater.refresh()
        infos = [updater.get_targetinfo(name) for name in names]
        if None in infos:
            raise LookupError(f"the repository has no {names[infos.index(None)]}")
        return [Path(updater.download_target(info)).read_bytes() for info in infos]

    def trusted(self, role: str) -> int:
        """Version of the metadata that it trusts and keeps; 0 if it has none."""
        path = self.folder / "metadata" / f"{role}.json"
        return Metadata.from_bytes(path.read_bytes()).signed.version if path.exists() else 0
