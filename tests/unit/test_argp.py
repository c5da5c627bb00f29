# SPDX-License-Identifier: Apache-2.0
"""Compare our parser with glibc's argp, byte for byte.

The oracle is a C program made from the same tables as our parser and compiled here. Left out are
words that abbreviate argp's hidden options `--program-name` and `--HANG`, which we do not have,
and lines of exactly 79 columns, where argp reads past its buffer.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libnvc.cli import container_cli, container_configure, container_info, container_list
from libnvc.cli._argp import (
    BUILTIN,
    Option,
    Parser,
    ParserExit,
    parse,
    too_many_arguments,
    usage_error,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nvidia-container-cli"
TYPED = f"/usr/bin/{NAME}"

REAL = (
    container_cli.PARSER,
    (container_info.PARSER, container_list.PARSER, container_configure.PARSER),
)

# What the real tables do not have: long names, long texts, capitals, optional arguments.
ODD = (
    Parser(
        name=NAME,
        doc="Wrap " + "around " * 20 + "end",
        arguments="COMMAND [ARG...]",
        options=(
            Option(name="zeta", short="Z", doc="capital"),
            Option(name="zap", short="z", arg="X", optional=True, doc="small " * 12 + "end"),
            Option(name="zapper", arg="X", optional=True, doc="abbreviated by zap"),
            Option(name="a-name-too-long-for-its-column", arg="VALUE", doc="below " * 9 + "end"),
            Option(name="reaches-the-column-z", short="r", doc="three blanks"),
        ),
        commands=(("one", "the first " * 9 + "end"), ("two", "the second")),
    ),
    (
        Parser(name=f"{NAME} one", doc="One.", arguments="SOURCE TARGET"),
        Parser(
            name=f"{NAME} two",
            doc="Two.",
            options=tuple(
                Option(
                    name=f"{letter * 3}-option", short=letter, arg="ARG" * (number % 3), doc="text"
                )
                for number, letter in enumerate("aBcDeFgHiJ")
            ),
        ),
    ),
)

Tables = tuple[Parser, tuple[Parser, ...]]
Outcome = tuple[str, str, int]

SOURCE = r"""
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
@TABLES@
static void show_version(FILE *out, struct argp_state *state)
{
	(void)state;
	fputs("version\n", out);
}
static error_t show(const struct argp_option *option, int key, const char *arg)
{
	for (; option->name || option->key || option->doc; option++)
		if (option->key == key && option->name)
			return printf("%s=%s\n", option->name, arg ? arg : "(none)"), 0;
	return ARGP_ERR_UNKNOWN;
}
static error_t command_key(int key, char *arg, struct argp_state *state)
{
	const struct argp *own = state->input;

	if (key != ARGP_KEY_ARG)
		return show(own->options, key, arg);
	return own->args_doc ? printf("=%s\n", arg), 0 : ARGP_ERR_UNKNOWN;
}
@COMMANDS@
static error_t main_key(int key, char *arg, struct argp_state *state)
{
	char title[100];
	char **argv = state->argv + state->next - 1;
	void *own;

	if (key == ARGP_KEY_NO_ARGS)
		argp_usage(state);
	if (key != ARGP_KEY_ARG)
		return show(main_options, key, arg);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(commands[i].name, arg))
			continue;
		printf("=%s\n", arg);
		snprintf(title, sizeof(title), "%s %s", state->name, arg);
		argv[0] = title;
		own = (void *)&commands[i].argp;
		argp_parse(&commands[i].argp, state->argc - state->next + 1, argv, 0, 0, own);
		state->next = state->argc;
		return 0;
	}
	argp_usage(state);
	return 0;
}
int main(int argc, char **argv)
{
	static const struct argp top = {main_options, main_key, @ARGUMENTS@, @DOC@, 0, 0, 0};

	argp_err_exit_status = 1;
	argp_program_version_hook = show_version;
	return argp_parse(&top, argc, argv, ARGP_IN_ORDER, 0, 0);
}
"""


def c_string(text: str) -> str:
    return f'"{text}"' if text else "0"


def c_options(parser: Parser, variable: str) -> str:
    rows = [
        f"{{{c_string(option.name)}, {ord(option.short) if option.short else 1000 + number}, "
        f"{c_string(option.arg)}, {'OPTION_ARG_OPTIONAL' if option.optional else 0}, "
        f"{c_string(option.doc)}, 0}},"
        for number, option in enumerate(parser.options)
    ]
    if parser.commands:
        rows.append('{0, 0, 0, 0, "Commands:", 1},')
    rows += [
        f"{{{c_string(name)}, 0, 0, OPTION_DOC | OPTION_NO_USAGE, {c_string(doc)}, 1}},"
        for name, doc in parser.commands
    ]
    return f"static const struct argp_option {variable}[] = {{{' '.join(rows)} {{0}}}};\n"


def c_source(tables: Tables) -> str:
    top, commands = tables
    variables = {parser.name.split()[-1]: parser for parser in commands}
    options = [c_options(parser, f"{name}_options") for name, parser in variables.items()]
    rows = [
        f'{{"{name}", {{{name}_options, command_key, {c_string(parser.arguments)}, '
        f"{c_string(parser.doc)}, 0, 0, 0}}}},"
        for name, parser in variables.items()
    ]
    head = "static const struct { const char *name; struct argp argp; } commands[] ="
    parts = {
        "@TABLES@": "".join([c_options(top, "main_options"), *options]),
        "@COMMANDS@": f"{head} {{{' '.join(rows)}}};",
        "@ARGUMENTS@": c_string(top.arguments),
        "@DOC@": c_string(top.doc),
    }
    source = SOURCE
    for mark, text in parts.items():
        source = source.replace(mark, text)
    return source


def build(tables: Tables, directory: Path) -> Path:
    source = directory / "oracle.c"
    source.write_text(c_source(tables))
    program = directory / "oracle"
    subprocess.run(["gcc", "-w", "-o", program, source], check=True)
    return program


@pytest.fixture(scope="session")
def real_oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(REAL, tmp_path_factory.mktemp("argp-real"))


@pytest.fixture(scope="session")
def odd_oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ODD, tmp_path_factory.mktemp("argp-odd"))


def theirs(oracle: Path, words: list[str]) -> Outcome:
    done = subprocess.run(
        [TYPED, *words], executable=oracle, capture_output=True, text=True, check=False
    )
    return done.stdout, done.stderr, done.returncode


def ours(tables: Tables, words: list[str]) -> Outcome:
    """Print the events of our parser as the oracle prints argp's."""
    shown: list[str] = []
    try:
        replay(tables, [TYPED, *words], shown)
    except ParserExit as end:
        printed = "".join(shown)
        return (printed, end.text, end.status) if end.status else (printed + end.text, "", 0)
    return "".join(shown), "", 0


def replay(tables: Tables, argv: list[str], shown: list[str]) -> None:
    top, commands = tables
    by_name = {parser.name.split()[-1]: parser for parser in commands}
    for name, value, after in parse(top, argv):
        if name:
            show(name, value, shown)
            continue
        command = by_name.get(value or "")
        if command is None:
            raise usage_error(top)
        show(name, value, shown)
        for inner, inner_value, _ in parse(command, [command.name, *argv[after:]]):
            if not inner and not command.arguments:
                raise too_many_arguments(command)
            show(inner, inner_value, shown)
        return
    raise usage_error(top)


def show(name: str, value: str | None, shown: list[str]) -> None:
    if name == "version":
        raise ParserExit("version\n", 0)
    shown.append(f"{name}={'(none)' if value is None else value}\n")


def words_for(tables: Tables) -> st.SearchStrategy[list[str]]:
    top, commands = tables
    options = [*top.options, *BUILTIN]
    for parser in commands:
        options += parser.options
    names = [option.name for option in options]
    letters = [option.short for option in options if option.short]
    long = st.sampled_from(names).flatmap(
        lambda name: st.integers(2, len(name)).map(lambda end: f"--{name[:end]}")
    )
    cluster = st.lists(st.sampled_from([*letters, "x", "q"]), min_size=1, max_size=3)
    word = st.one_of(
        long,
        st.tuples(long, st.sampled_from(["", "0", "a=b"])).map("=".join),
        cluster.map(lambda group: "-" + "".join(group)),
        st.sampled_from(["", "-", "--", "/rootfs", "12", "--nope", "--nope=1", "nope"]),
    )
    command = st.sampled_from([parser.name.split()[-1] for parser in commands])
    return st.tuples(
        st.lists(word, max_size=2),
        st.lists(command, max_size=1),
        st.lists(word, max_size=4),
    ).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


CASES = [
    [],
    ["nope"],
    ["--help"],
    ["-?"],
    ["--usage"],
    ["--version"],
    ["-V"],
    ["--vers"],
    ["info", "--help"],
    ["info", "--usage"],
    ["info", "-V"],
    ["list", "--help"],
    ["list", "--usage"],
    ["configure", "--help"],
    ["configure", "--usage"],
    ["--nope"],
    ["--nope", "--help"],
    ["-x"],
    ["--root"],
    ["-r"],
    ["--root=/a", "-l", "/b", "-u1:2", "--user=root:video", "--user", "list"],
    ["-u", "1:2", "list"],
    ["-kn", "--load", "--no-p", "--no-create-imex-channels", "-kd", "f", "list", "--compat32"],
    ["--load-kmods=1", "list"],
    ["--no-", "list"],
    ["list", "--mig-c=all", "--mig-monitor", "all", "--imex=0,1", "--imex-channel", "2"],
    ["list", "--mig=all"],
    ["list", "--compat32=yes"],
    ["configure", "--compat32", "--mig-m", "--no-cnt", "--cuda=mount", "/a", "--cuda-compat-mode"],
    ["configure", "--co", "--c"],
    ["--", "list"],
    ["--"],
    ["-", "list"],
    ["list", "-lb", "-d0", "-fd", "1"],
    ["list", "-lx"],
    ["list", "-d"],
    ["list", "--no"],
    ["list", "--no-", "--help"],
    ["list", "--libraries=x"],
    ["list", "--lib=x"],
    ["list", "word", "--nope"],
    ["info", "word"],
    ["info", "--", "-V"],
    ["configure", "/a", "--pid", "3", "-cu", "--dev=1", "-d2", "--", "-c"],
    ["configure", "--device"],
    ["configure", "--nope=1"],
    ["configure", "-dcu", "-cud"],
]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_real_tables(real_oracle: Path, words: list[str]) -> None:
    assert ours(REAL, words) == theirs(real_oracle, words)


@pytest.mark.parametrize("command", [[], ["one"], ["two"]])
@pytest.mark.parametrize("word", ["--help", "--usage", "--nope", "--z", "--zap", "-zZ", "-a"])
def test_odd_tables(odd_oracle: Path, command: list[str], word: str) -> None:
    assert ours(ODD, [*command, word]) == theirs(odd_oracle, [*command, word])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=words_for(REAL))
def test_any_command_line(real_oracle: Path, words: list[str]) -> None:
    assert ours(REAL, words) == theirs(real_oracle, words)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=words_for(ODD))
def test_any_command_line_of_odd_tables(odd_oracle: Path, words: list[str]) -> None:
    assert ours(ODD, words) == theirs(odd_oracle, words)
