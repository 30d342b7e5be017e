from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from models.evaluation import UNKNOWN, DatasetError, read_dataset
from models.retrieval.session_lines import SESSION_LIMIT


def files(folder: Path, train: str, test: str) -> tuple[Path, Path]:
    (folder / "train.txt").write_text(train)
    (folder / "test.tsv").write_text(test)
    return folder / "train.txt", folder / "test.tsv"


def test_items_keep_their_names_and_order(tmp_path: Path) -> None:
    dataset = read_dataset(*files(tmp_path, "a b a\nc b\n", "a c\tb\nb\tnever\n"))
    assert dataset.names == ("a", "b", "c")
    assert [dataset.train[index].tolist() for index in range(2)] == [[0, 1, 0], [2, 1]]
    assert [dataset.prefixes[index].tolist() for index in range(2)] == [[0, 2], [1]]
    assert dataset.targets.tolist() == [1, UNKNOWN]


def test_an_item_that_only_a_test_knows_is_nobodys_target(tmp_path: Path) -> None:
    dataset = read_dataset(*files(tmp_path, "a b\n", "new a\tb\na\tnew\n"))
    assert dataset.names == ("a", "b", "new")
    assert dataset.targets.tolist() == [1, UNKNOWN]


def test_compressed_files_are_read_as_they_are(tmp_path: Path) -> None:
    plain = files(tmp_path, "a b\n", "a\tb\n")
    packed = []
    for path in plain:
        packed.append(path.with_name(path.name + ".gz"))
        packed[-1].write_bytes(gzip.compress(path.read_bytes()))
    assert read_dataset(*packed).names == read_dataset(*plain).names


def test_the_newest_sessions_of_training_become_tests(tmp_path: Path) -> None:
    train, _ = files(tmp_path, "a b\nb c\nc a b\na\n", "a\tb\n")
    dataset = read_dataset(train, None).tail(0.5)
    assert len(dataset.train) == 2
    assert [dataset.prefixes[index].tolist() for index in range(len(dataset.prefixes))] == [[2], [2, 0]]
    assert dataset.targets.tolist() == [0, 1]


def test_an_item_that_leaves_training_with_the_tail_is_unknown(tmp_path: Path) -> None:
    train, _ = files(tmp_path, "a b\na b\na z\n", "a\tb\n")
    assert read_dataset(train, None).tail(0.3).targets.tolist() == [UNKNOWN]


@pytest.mark.parametrize(
    ("train", "test", "complaint"),
    [
        ("\n \n", "a\tb\n", "holds no session"),
        ("", "a\tb\n", "holds no session"),
        ("a b\n", "", "holds no test"),
        ("a b\n", "a\tb\na b\n", "test.tsv, line 2: expected"),
        ("a b\n", "\tb\n", "test.tsv, line 1: expected"),
        ("a b\n", "a\tb c\n", "test.tsv, line 1: expected"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, train: str, test: str, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint):
        read_dataset(*files(tmp_path, train, test))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    train, test = files(tmp_path, "a b\n", "a\tb\n")
    with pytest.raises(DatasetError, match="absent"):
        read_dataset(tmp_path / "absent", test)
    (tmp_path / "broken.gz").write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match="broken"):
        read_dataset(tmp_path / "broken.gz", test)
    train.write_bytes(b"a b\n\xff\xfe a\n")
    with pytest.raises(DatasetError, match="line 2: byte 0xff is not UTF-8"):
        read_dataset(train, test)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    long = [f"i{number}" for number in range(SESSION_LIMIT + 5)]
    dataset = read_dataset(*files(tmp_path, f"\na b\r\n{' '.join(long)}\n\n", f"{' '.join(long)}\tb\n \n"))
    assert [len(dataset.train[index]) for index in range(len(dataset.train))] == [2, SESSION_LIMIT]
    assert [dataset.names[row] for row in dataset.train[1].tolist()] == long[:SESSION_LIMIT]
    assert [dataset.names[row] for row in dataset.prefixes[0].tolist()] == long[-SESSION_LIMIT:]
    assert [warning.split(" in ")[0] for warning in dataset.warnings] == [
        "2 blank lines", "1 sessions of more than 200 clicks", "1 prefixes of more than 200 clicks", "1 blank lines",
    ]  # fmt: skip
    assert read_dataset(*files(tmp_path, "a b\n", "a\tb\n")).warnings == ()


def test_a_tail_without_a_test_is_refused(tmp_path: Path) -> None:
    train, _ = files(tmp_path, "a b\na\n", "a\tb\n")
    with pytest.raises(DatasetError, match="none of two clicks"):
        read_dataset(train, None).tail(0.5)
