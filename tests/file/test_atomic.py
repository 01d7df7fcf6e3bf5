"""Files are replaced whole or not at all, with the permissions that they had; what can't be read is told apart."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qfx
from qfx.file.atomic import remove_parts, replacing, require_writable, write_atomically
from tests.nets import small_net

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
MODES = [0o600, 0o640, 0o644, 0o664, 0o666, 0o700, 0o755]


@pytest.fixture(scope="module")
def model() -> Any:
    return qfx.quantize_fx(small_net("ConvBnReluNet"), {"": qfx.get_default_qconfig()}, [X], adaptive_rounding=False)


@pytest.fixture(scope="module")
def file(model: Any) -> bytes:
    made = io.BytesIO()
    qfx.save(model, made)
    return made.getvalue()


WRITERS: dict[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "a model": (".qfx", qfx.save),
    "tensors": (".pt", lambda _, path: qfx.save({"x": X}, path)),
    "a report": (".html", lambda model, path: qfx.write_report(path, model)),
    "a picture": (".svg", qfx.draw),
    "text of a picture": (".dot", qfx.draw),
    "bytes": (".bin", lambda _, path: write_atomically(path, b"new")),
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("before", MODES)
def test_a_file_keeps_its_permissions(model: Any, tmp_path: Path, writer: str, before: int) -> None:
    suffix, write = WRITERS[writer]
    path = tmp_path / f"it{suffix}"
    path.write_bytes(b"what was there")
    path.chmod(before)
    write(model, path)
    assert mode(path) == before
    assert path.read_bytes() != b"what was there"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_any_new_file(model: Any, tmp_path: Path, writer: str, umask: int) -> None:
    suffix, write = WRITERS[writer]
    path = tmp_path / f"it{suffix}"
    before = os.umask(umask)
    try:
        write(model, path)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert mode(path) == 0o666 & ~umask


def test_an_unfinished_file_is_never_more_open_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(path) as part:
        assert mode(part) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    path.chmod(0o4711)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (12345, 54321, 0o4711)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path, link, second = tmp_path / "folder" / "it", tmp_path / "link", tmp_path / "second"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to("folder/it")
    second.symlink_to(link)
    write_atomically(second, b"new")
    assert link.is_symlink()
    assert second.is_symlink()
    assert (path.read_bytes(), mode(path)) == (b"new", 0o640)


def test_a_link_to_nothing_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("it")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "it").read_bytes() == b"new"


def test_a_hard_link_keeps_what_was_there(tmp_path: Path) -> None:
    path, other = tmp_path / "it", tmp_path / "other"
    path.write_bytes(b"old")
    os.link(path, other)
    write_atomically(path, b"new")
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


PLACES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a folder": (Path.mkdir, "it is a folder"),
    "a pipe": (_fifo, "it is a device or a pipe"),
    "a device": (lambda path: path.symlink_to("/dev/null"), "it is a device or a pipe"),
    "a loop of links": (lambda path: path.symlink_to(path.name), "it is a link that leads to itself"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_file_is_left_alone(model: Any, tmp_path: Path, place: str, writer: str) -> None:
    suffix, write = WRITERS[writer]
    path = tmp_path / f"it{suffix}"
    make, why = PLACES[place]
    make(path)
    with pytest.raises(qfx.InputError, match=why) as raised:
        write(model, path)
    assert raised.value.remedy
    assert not path.is_file()


@pytest.mark.parametrize("name", ["missing/it", "\0", "x" * 300, "file/it"])
def test_a_place_that_can_not_be_is_told(model: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (lambda path: qfx.save(model, path), lambda path: qfx.save({"x": X}, path), qfx.load):
        with pytest.raises(qfx.InputError, match=r"can't be (written|read)[\s\S]*what to do"):
            write(tmp_path / name)


def test_names_of_any_length_that_a_file_can_have(model: Any, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".qfx")
    qfx.save(model, path)
    assert torch.equal(qfx.load(path)(X), model(X))


def test_parts_that_were_left_are_taken_away(tmp_path: Path) -> None:
    left = []

    def leave() -> None:
        with replacing(tmp_path / "it[1].qfx") as part:
            left.append(part.read_bytes)
            (tmp_path / f"{part.name.replace('.part', 'x.part')}").write_bytes(b"")

    leave()
    remove_parts(tmp_path / "it[1].qfx")
    assert [path.name for path in tmp_path.iterdir()] == ["it[1].qfx"]


def test_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "it"
    contents = [bytes([index]) * 10_000 for index in range(8)]
    threads = [threading.Thread(target=write_atomically, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("given", [None, 3, [], object()])
def test_what_is_no_place_at_all_is_told(model: Any, given: Any) -> None:
    for call in (lambda: qfx.save(model, given), lambda: qfx.save({"x": X}, given), lambda: qfx.load(given)):
        with pytest.raises(qfx.InputError, match=r"The file is [\s\S]*Give a path"):
            call()


def test_what_can_not_be_pickled_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "it.pt"
    path.write_bytes(b"old")
    with pytest.raises(qfx.ConversionError, match=r"can't be saved[\s\S]*state_dict"):
        qfx.save({"function": lambda x: x}, path)
    assert path.read_bytes() == b"old"


def test_paths_of_every_kind(model: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "a", str(tmp_path / "b"), os.fsencode(tmp_path / "c")):
        qfx.save(model, path)
        assert torch.equal(qfx.load(path)(X), model(X))


def test_an_open_file_stays_where_it_is(model: Any) -> None:
    file = io.BytesIO()
    for tensor in (X, X + 1):
        qfx.save({"x": tensor}, file)
    file.seek(0)
    assert torch.equal(qfx.load(file)["x"], X)


class Unseekable(io.RawIOBase):
    """A stream such as that of a network connection."""

    def __init__(self, content: bytes) -> None:
        self.inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.inner.readinto(buffer)


def test_a_stream_that_can_not_go_back(model: Any, file: bytes) -> None:
    assert torch.equal(qfx.load(Unseekable(file))(X), model(X))


def test_a_file_open_as_text_is_told(tmp_path: Path, file: bytes) -> None:
    (tmp_path / "it").write_bytes(file)
    with (
        (tmp_path / "it").open(encoding="latin-1") as opened,
        pytest.raises(qfx.InputError, match="open as text"),
    ):
        qfx.load(opened)


# ---------------------------------------------------------------- damaged files, and others


def _zip(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("it", content)
    return made.getvalue()


def _npy() -> bytes:
    made = io.BytesIO()
    np.save(made, np.ones(3))
    return made.getvalue()


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda file: b"",
    "a byte": lambda file: b"\x89",
    "a pickle's byte": lambda file: b"\x80",
    "text": lambda file: b"hello\n",
    "a page": lambda file: b"<!DOCTYPE html><html></html>",
    "json": lambda file: b'{"a": 1}',
    "a pickle": lambda file: pickle.dumps({"a": object}),
    "a pickle cut short": lambda file: pickle.dumps(list(range(1000)))[:100],
    "a pickle that calls": lambda file: pickle.dumps(print),
    "a zip": _zip,
    "an empty zip": lambda file: b"PK\x05\x06" + bytes(18),
    "a zip cut short": lambda file: _zip(file)[:-30],
    "a zip's head": lambda file: b"PK\x03\x04",
    "gzip": gzip.compress,
    "numpy": lambda file: _npy(),
    "gguf": lambda file: b"GGUF" + bytes(100),
    "safetensors": lambda file: (80).to_bytes(8, "little") + b'{"x":{"dtype":"F32"}}' + bytes(100),
    "changed line ends": lambda file: file.replace(b"\r\n", b"\n"),
    "as text": lambda file: file.decode("latin-1").encode("utf-8"),
    "without its head": lambda file: file[8:],
    "zeros": lambda file: bytes(1000),
    "git-lfs": lambda file: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("sort", OTHERS)
@pytest.mark.parametrize("weights_only", [True, False])
def test_another_file_is_told_with_a_remedy(file: bytes, tmp_path: Path, sort: str, weights_only: bool) -> None:
    content = OTHERS[sort](file)
    (tmp_path / "it.qfx").write_bytes(content)
    if not weights_only and sort in ("a pickle", "a pickle that calls"):
        return  # they load: torch.save writes no such files, but the user trusts them
    for given in (tmp_path / "it.qfx", io.BytesIO(content)):
        with pytest.raises(qfx.InputError) as raised:
            qfx.load(given, weights_only=weights_only)
        assert raised.value.remedy


def _torch_file() -> bytes:
    made = io.BytesIO()
    torch.save({"x": X, "q": qfx.quantize_per_tensor(X, 0.1, 3, qfx.quint8)}, made)
    return made.getvalue()


def _legacy_file() -> bytes:
    made = io.BytesIO()
    torch.save({"x": X}, made, _use_new_zipfile_serialization=False)
    return made.getvalue()


@pytest.mark.parametrize("make", [_torch_file, _legacy_file])
def test_a_file_of_torch_cut_or_changed_at_any_byte_loads_or_is_told(make: Callable[[], bytes]) -> None:
    content = make()
    random = np.random.default_rng(0)
    changed = [content[: len(content) * i // 60] for i in range(60)]
    for _ in range(150):
        at, value = int(random.integers(min(len(content), 3000))), int(random.integers(1, 256))
        changed.append(content[:at] + bytes([content[at] ^ value]) + content[at + 1 :])
    for each in changed:
        try:
            qfx.load(io.BytesIO(each))
        except qfx.InputError as error:
            assert error.remedy  # noqa: PT017


class OfAUser(nn.Linear):
    """A class of a user's own."""


def test_a_whole_module_says_how_it_is_loaded() -> None:
    made = io.BytesIO()
    qfx.save(OfAUser(2, 2), made)
    made.seek(0)
    with pytest.raises(qfx.InputError, match=r"more than tensors[\s\S]*weights_only=False"):
        qfx.load(made)
    made.seek(0)
    assert type(qfx.load(made, weights_only=False)) is OfAUser


def test_writable_is_told_early(tmp_path: Path) -> None:
    require_writable(tmp_path / "it.qfx", ".qfx")
    with pytest.raises(qfx.InputError, match=r"Name it \.qfx"):
        require_writable(tmp_path / "it.txt", ".qfx")
