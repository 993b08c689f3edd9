"""Variables of Compose come from .env beside it and from a service's env_file, and no secret is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.importers.facts import ImportOptions, ImportSourceError, ServerFacts, SourceFacts
from scenarios.importers.recognition import kind_of
from scenarios.importers.servers.compose.env_files import variables_in
from scenarios.importers.servers.compose.interpolation import Interpolation
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.importers.source import Source

SERVICE = """\
services:
  g0:
    image: vllm/vllm-openai:v0.11.0
    env_file: {env_file}
    entrypoint: [sh, -c]
    command: ["vllm serve $$MODEL --max-loras $$SLOTS --api-key $$KEY"]
"""


def read(tmp_path: Path, text: str, **files: str) -> SourceFacts:
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content, encoding="utf-8")
    path = tmp_path / "compose.yaml"
    path.write_text(text, encoding="utf-8")
    source = Source(path)
    kind = kind_of(source)
    assert kind is not None
    return kind.read(source, ImportOptions())


def engine(server: ServerFacts) -> dict[str, object]:
    return {name: said.value for name, said in server.engine.items()}


def test_a_command_uses_the_variables_of_its_env_file(tmp_path: Path) -> None:
    env = "# of g0\nMODEL=org/m\nSLOTS=4 # few\nKEY=hush\nHF_TOKEN=hush\n"
    facts = read(tmp_path, SERVICE.format(env_file="a.env"), a_env=env)
    (server,) = facts.servers
    assert server.model is not None
    assert (server.model.value, engine(server)) == ("org/m", {"max_loras": 4})
    assert "hush" not in repr(facts)
    assert facts.notes == ()


def test_of_several_files_the_last_counts_and_environment_before_all(tmp_path: Path) -> None:
    text = SERVICE.format(env_file="[a.env, {path: ./b.env, required: false}]")
    text += "    environment: {MODEL: org/own}\n"
    facts = read(tmp_path, text, a_env="MODEL=org/a\nSLOTS=2", b_env="SLOTS=6\n")
    (server,) = facts.servers
    assert server.model is not None
    assert (server.model.value, engine(server)) == ("org/own", {"max_loras": 6})


def test_a_file_that_is_not_here_is_told(tmp_path: Path) -> None:
    facts = read(tmp_path, SERVICE.format(env_file="[gone.env, '../x/$HOST.env']"))
    assert facts.notes == (
        "g0: its env_file gone.env is not here.",
        "g0: its env_file ../x/$HOST.env is not here.",
    )
    (server,) = facts.servers
    assert engine(server) == {}


def test_values_of_the_file_are_those_of_dot_env(tmp_path: Path) -> None:
    text = "services:\n  g0:\n    image: vllm/vllm-openai:${TAG}\n"
    text += "    command: --model ${MODEL:?no model} --max-loras ${SLOTS:-2} --max-lora-rank ${RANK-16}\n"
    (tmp_path / ".env").write_text("MODEL=org/m\nSLOTS=\nTOKEN=hush\n", encoding="utf-8")
    facts = read(tmp_path, text)
    (server,) = facts.servers
    assert server.model is not None
    assert server.model.value == "org/m"
    assert engine(server) == {"max_loras": 2, "max_lora_rank": 16}
    assert any(note.startswith("MODEL and SLOTS: as .env") for note in facts.notes), facts.notes
    assert "hush" not in repr(facts)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("V=VAL", "VAL"), ('V="VAL"', "VAL"), ("V='VAL'", "VAL"), ("V=VAL # c", "VAL"),
        ("V=VAL# no", "VAL# no"), ('V="VAL # no"', "VAL # no"), ('V="VAL" # c', "VAL"), ("V='$O'", "$O"),
        (r"V='Let\'s go!'", "Let's go!"), (r'V="{\"a\": \"b\"}"', '{"a": "b"}'), (r'V="a\tb"', "a\tb"),
        (r"V='a\tb'", r"a\tb"), (r"V=a\tb", r"a\tb"), ("V=", ""), ("V", None), ("export V=1", "1"),
        ("V = 1 ", "1"), ("V=$O", "x"), ("V=${O:-y}z", "xz"), ("V=${Q:-y}", "y"), ('V="a\nb"', "a\nb"),
        ("V=# c", ""), ("V=1\r", "1"), ("V=a=b", "a=b"),
    ],
)  # fmt: skip
def test_lines_of_env_files_are_read_as_compose_reads_them(
    tmp_path: Path, line: str, value: str | None
) -> None:
    path = tmp_path / "a.env"
    path.write_text(f"# first\n\nO=x\n{line}\nLAST=1\n", encoding="utf-8", newline="")
    found = variables_in(path, {})
    assert found.get("V") == value
    assert (found["O"], found["LAST"]) == ("x", "1")


def test_raw_values_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    path.write_text("A='$X' # c\nB=\nC\n", encoding="utf-8")
    assert variables_in(path, {}, is_raw=True) == {"A": "'$X' # c", "B": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a$$b", "a$b"), ("$A.", "1."), ("${A}", "1"), ("${A:-2}", "1"), ("${E:-2}", "2"), ("${E-2}", ""),
        ("${N-2}", "2"), ("${N:-${A}}", "1"), ("${N:-${M:-d}}", "d"), ("${A:+s}", "s"), ("${N:+s}", ""),
        ("${E:?x}", f"{UNKNOWN}{{E:?x}}"), ("${A:?x}", "1"), ("$", "$"), ("${", "${"), ("${A", "${A"),
        ("$1", "$1"), ("${N}", f"{UNKNOWN}{{N}}"), ("$N", f"{UNKNOWN}N"), ("${A/x/y}", f"{UNKNOWN}{{A/x/y}}"),
        ("$$$$", "$$"), ("$${A}", "${A}"), ("{{ x }}", "{{ x }}"),
    ],
)  # fmt: skip
def test_variables_are_put_in_as_compose_does(text: str, expected: str) -> None:
    assert Interpolation({"A": "1", "E": ""})(text) == expected


def test_deep_and_long_texts_end() -> None:
    put = Interpolation({})
    assert len(put("${A:-" * 20_000 + "}" * 20_000)) < 200_000
    assert put("$$" * 100_000) == "$" * 100_000
    assert put("${A" * 20_000) == "${A" * 20_000


DAMAGED = [
    "=1", "1=2", "A B", "A='x", 'A="x', "A='x' y", 'A="x" y', "A: 1", "[a]\nb=1", "-A=1",
    "A=1\nnonsense here", "A=1\n'", "é=1", "A.=1\n=", '"A"=1', "$A=1", "A b=1", "A\tb", "{A: 1}", "<A>",
    "A=\"'\n", "A='\"\n",
    "\x00", "A\x00B", "A;B=1", "A&B", "A|B=1", "(A)=1", "`A`=1", "A=1\n\\B=2", "!A=1", "A,B=1", "A=\"\\",
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_env_file_is_one_error_that_shows_no_value(tmp_path: Path, content: str) -> None:
    with pytest.raises(ImportSourceError) as caught:
        read(tmp_path, SERVICE.format(env_file="a.env"), a_env=f"KEY=hush\n{content}\n")
    message = str(caught.value)
    assert "a.env" in message
    assert "line " in message
    assert "hush" not in message


@pytest.mark.parametrize("env_file", ["3", "[3]", "{a: 1}", "[{a: 1}]", "true", "[null]", "['']", "[[a]]"])
def test_what_is_no_path_is_refused(tmp_path: Path, env_file: str) -> None:
    with pytest.raises(ImportSourceError, match="env_file"):
        read(tmp_path, SERVICE.format(env_file=env_file))


def test_files_that_are_no_text_or_too_long_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportSourceError, match="longer than"):
        read(tmp_path, SERVICE.format(env_file="a.env"), a_env="A=1\n" * 20_000)
    (tmp_path / "b.env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(ImportSourceError, match=r"b\.env"):
        read(tmp_path, SERVICE.format(env_file="b.env"))
