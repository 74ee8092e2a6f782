"""What an import that was cut short remembers."""

from pathlib import Path

import pytest

from thmnayah.cli.checkpoints import Checkpoint, checkpoint_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "imports" / "checkpoint"


def test_a_line_is_remembered_by_the_next_run_and_no_other_is(path: Path) -> None:
    with Checkpoint(path) as checkpoint:
        checkpoint.add(7)
        checkpoint.add(1_000_000)

    with Checkpoint(path) as checkpoint:
        assert [line for line in (1, 6, 7, 8, 999_999, 1_000_000, 1_000_001) if line in checkpoint] == [7, 1_000_000]


def test_a_killed_run_has_remembered_every_line_it_added(path: Path) -> None:
    killed = Checkpoint(path)
    killed.add(3)

    with killed, Checkpoint(path) as checkpoint:
        assert 3 in checkpoint


def test_starting_over_forgets(path: Path) -> None:
    with Checkpoint(path) as checkpoint:
        checkpoint.add(1)

    with Checkpoint(path, restart=True) as checkpoint:
        assert 1 not in checkpoint


def test_a_complete_import_leaves_nothing(path: Path) -> None:
    with Checkpoint(path) as checkpoint:
        checkpoint.remove()

    assert not path.exists()


def test_a_file_that_changed_has_another_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text("{}\n")
    before = checkpoint_path(file, "127.0.0.1:8080", "user")

    assert checkpoint_path(file, "127.0.0.1:8080", "user") == before
    assert checkpoint_path(file, "127.0.0.1:8081", "user") != before
    assert checkpoint_path(file, "127.0.0.1:8080", "user of another installation") != before
    file.write_text("{}\n{}\n")
    assert checkpoint_path(file, "127.0.0.1:8080", "user") != before
