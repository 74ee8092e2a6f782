"""`.env.example` lists every setting there is, and no file names one that there is not."""

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]


def models() -> list[type[BaseSettings]]:
    """Every settings model of the project."""
    for folder in ("libs", "services", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            if re.search(r"^class \w+\(\S*Settings\):", path.read_text(), re.MULTILINE):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [
        model for model in _subclasses(BaseSettings) if model.__module__.startswith(("libs.", "services.", "deploy."))
    ]


def _subclasses(model: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    for subclass in model.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def name(model: type[BaseSettings], field: str) -> str:
    return f"{model.model_config['env_prefix']}{field}".upper()


def expected(model: type[BaseSettings]) -> Iterator[str]:
    """A model's own settings as they stand in the file: what it is for, then its name and default."""
    for field, info in model.model_fields.items():
        if field in model.__annotations__:
            default = info.default.get_secret_value() if isinstance(info.default, SecretStr) else info.default
            required = default is PydanticUndefined
            assert info.description, f"{name(model, field)} says nothing of itself"
            yield (
                f"# {info.description}{' Required.' if required else ''}\n"
                f"#{name(model, field)}={'' if required else default}"
            )


def test_the_example_lists_every_setting_with_its_default_and_nothing_else() -> None:
    text = (ROOT / ".env.example").read_text()

    listed = Counter(re.findall(r"^# .+\n#[A-Z_]+=.*$", text, re.MULTILINE))

    there_are = Counter(entry for model in models() for entry in expected(model))
    assert "\n".join((there_are - listed).elements()) == "", "these lines are missing"
    assert "\n".join((listed - there_are).elements()) == "", "these lines are too many"
    assert len(re.findall("^#?[A-Z_]+=", text, re.MULTILINE)) == listed.total(), "an entry without a description"


def test_only_settings_that_exist_are_named() -> None:
    exist = {name(model, field) for model in models() for field in model.model_fields}
    files = [
        *(
            path
            for path in (ROOT / "deploy").rglob("*")
            if path.suffix in {"", ".conf", ".md", ".yaml"} and path.is_file()
        ),
        ROOT / "docs" / "operations.md",
    ]

    named = {match: path.name for path in files for match in re.findall(r"THMNAYAH_[A-Z_]+", path.read_text())}

    assert {setting: file for setting, file in named.items() if setting not in exist} == {}
