"""Foreign pickles: what PyTorch and NumPy write is read; whatever else a file asks for is refused, and never run."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.interop.pickles import read_pickle

TREE = {
    "models": {
        "net": OrderedDict(
            a=torch.arange(6.0).view(2, 3),
            t=torch.arange(6.0).view(2, 3).T,
            half=torch.ones(2, dtype=torch.float16),
            brain=torch.ones(2, dtype=torch.bfloat16),
            long=torch.arange(3),
            empty=torch.empty(0, 4),
            scalar=torch.tensor(2.5),
            p=torch.nn.Parameter(torch.ones(2)),
        )
    },
    "numbers": [1, 2.5, None, "text", True],
}


def saved(tmp_path: Path, tree: Any, new: bool = True) -> Path:
    path = tmp_path / f"{'new' if new else 'old'}.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=new)
    return path


@pytest.mark.parametrize("new", [True, False])
def test_both_formats_of_pytorch_are_read(tmp_path: Path, new: bool) -> None:
    found = read_pickle(saved(tmp_path, TREE, new))
    assert found["numbers"] == TREE["numbers"]
    for name, wanted in TREE["models"]["net"].items():  # type: ignore[index]
        got = found["models"]["net"][name]
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted.detach())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read(tmp_path: Path, protocol: int) -> None:
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.asfortranarray(np.eye(3)), np.arange(3, dtype=">i4")]
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol))
    for got, wanted in zip(read_pickle(path), arrays, strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.flags.writeable


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path, how: str) -> None:
        self.mark, self.how = mark, how

    def __reduce__(self) -> tuple[Any, ...]:
        calls: dict[str, tuple[Any, ...]] = {
            "os.system": (os.system, (f"touch {self.mark}",)),
            "eval": (eval, (f"open({str(self.mark)!r}, 'w')",)),
            "getattr": (getattr, ("", "join")),
        }
        return calls[self.how]


@pytest.mark.parametrize("how", ["os.system", "eval", "getattr"])
@pytest.mark.parametrize("form", ["new", "old", "plain"])
def test_what_would_run_something_is_refused_by_name(tmp_path: Path, how: str, form: str) -> None:
    mark = tmp_path / "executed"
    tree = {"models": {"generator": Malicious(mark, how)}}
    if form == "plain":
        path = tmp_path / "plain.pkl"
        path.write_bytes(pickle.dumps(tree))
    else:
        path = saved(tmp_path, tree, form == "new")
    with pytest.raises(UserError, match=r"refused, and nothing in it was executed.*(system|eval|getattr)"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "asks for posix.system"),
        (b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", "asks for __builtin__.eval"),
        (b"\x80\x02c\x1b[31mred\nx\n.", r"asks for \\x1b\[31mred"),
        (b"(S'true'\niposix\nsystem\n.", "no checkpoint"),
        (b"\x80\x02ccollections\nOrderedDict\n)R)\x85\x86R.", "a call of OrderedDict|no checkpoint"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.", "a change to function"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.", "an object of function"),
        (b"\x80\x02}(K\x01}u)\x85R.", "a call of dict"),
        (b"\x80\x02})K\x01s.", "a key that is a tuple"),
        (b"\x80\x02ccollections\nOrderedDict\n](K\x01e\x85R.", "an OrderedDict of something other than pairs"),
        (b"\x80\x02ccollections\nOrderedDict\n](](K\x01K\x02ee\x85R.", "a key that is not a string"),
        (b"\x80\x02]K\x01K\x02s.", "items of list"),
        (b"\x80\x02NQ.", "a reference to something outside"),
        (b"\x80\x02\x82\x01.", "no checkpoint"),
        (b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.", "68719476736 bytes are announced"),
        (b"\x80\x02B\xff\xff\xff\xff.", "4294967295 bytes are announced"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_programs_are_refused(tmp_path: Path, program: bytes, message: str) -> None:
    path = tmp_path / "program.pkl"
    path.write_bytes(program)
    with pytest.raises(UserError, match=message):
        read_pickle(path)


def test_python_2_hands_the_items_of_a_dict_over_as_pairs(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02ccollections\nOrderedDict\n](](X\x01\x00\x00\x00aK\x01e](X\x01\x00\x00\x00bK\x02ee\x85R.")
    assert read_pickle(path) == {"a": 1, "b": 2}


DOUBLED = b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"."
"""A list of a list twice, which is a list twice, and so on: sixty times."""
BOMBS = {
    "nested key": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "doubled key": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
    "doubled": DOUBLED,
    "doubled reference": DOUBLED[:-1] + b"Q.",
    "numbers as bytes": b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(J\x00\x00\x00\x40cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
    b"J\x00\x00\x00\x40\x85X\x01\x00\x00\x00CtR.",
    "bytes over and over": b"\x80\x02X\x00\x00\x10\x00"
    + b"x" * (1 << 20)
    + b"q\x00]"
    + b"("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 200
    + b"e.",
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_do_not_go_off(tmp_path: Path, name: str) -> None:
    """In a process of its own, with little memory and little time."""
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[name])
    program = (
        "import resource, sys, torch; from pathlib import Path; from anamorph.core.errors import UserError\n"
        "from anamorph.interop.pickles import read_pickle\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)\n"
        "try: read_pickle(Path(sys.argv[1])); print('read')\n"
        "except UserError as error: print('refused')"
    )
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == ("read" if name == "doubled" else "refused"), found.stderr


def test_a_memo_of_four_thousand_million_entries_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memo.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    assert read_pickle(path) == {}


def test_an_archive_that_expands_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps([0] * 1000))
    with pytest.raises(UserError, match="compressed"):
        read_pickle(path)


def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"x": torch.arange(4.0)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = next(name for name in members if name.endswith("data.pkl"))
    changed = members[index].replace(b"K\x04\x85", b"K\x05\x85")  # size (5,) in a storage of 4
    assert changed != members[index]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {index: changed}).items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match="is damaged.*storage of 4 numbers"):
        read_pickle(path)


@pytest.mark.parametrize("form", ["new", "old", "plain"])
def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path: Path, form: str) -> None:
    if form == "plain":
        original = pickle.dumps({"a": np.arange(12.0), "b": [1, 2, OrderedDict(x=1)]})
    else:
        original = saved(tmp_path, TREE, form == "new").read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "mutated"
    refused = 0
    for trial in range(400):
        mutated = bytearray(original)
        if trial % 4 == 0:
            del mutated[random.integers(len(mutated)) :]
        for place in random.integers(len(original), size=random.integers(1, 6)):
            if place < len(mutated):
                mutated[place] = random.integers(256)
        path.write_bytes(mutated)
        try:
            read_pickle(path)
        except UserError:  # anything else fails the test
            refused += 1
    assert refused > 100


def test_a_tensor_that_is_referred_to_often_is_made_once(tmp_path: Path) -> None:
    x = torch.ones(1000)
    found = read_pickle(saved(tmp_path, {"all": [x] * 1000, "again": x}))
    assert all(t is found["again"] for t in found["all"])


def test_a_file_of_something_else_is_named_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    with pytest.raises(UserError, match="archive without data.pkl"):
        read_pickle(tmp_path / "x.npz")
    with pytest.raises(UserError, match="cannot read .*directory"):
        read_pickle(tmp_path)
    path = saved(tmp_path, TREE, new=False)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="is damaged, cut short"):
        read_pickle(path)


def test_nesting_and_absence_are_told(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    buffer = io.BytesIO()
    pickle.dump(deep, buffer)
    (tmp_path / "deep.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="nested"):
        read_pickle(tmp_path / "deep.pkl")
    with pytest.raises(UserError, match="does not exist"):
        read_pickle(tmp_path / "none.pkl")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="no checkpoint"):
        read_pickle(tmp_path / "text.pth")
