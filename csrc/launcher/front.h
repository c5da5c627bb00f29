/* SPDX-License-Identifier: Apache-2.0 */
/* The front file: what Python found out once, so that a container that asks for no GPU need not
 * start it. Lines:
 *
 *     nvcfront 1 <version of libnvc>
 *     config <dev> <ino> <size> <mtime_ns> <ctime_ns> <path>    config.toml; zeros: there is none
 *     runtime <candidate>    for the low-level runtime, in order; one or more
 *     ask <string>           a configuration without any of these asks for nothing; one or more
 *     end
 *
 * Anything else, another version or another config.toml: no front file, and Python decides.
 * Privileges: none. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "file.h"

/* Values of lines with the same first word. */
struct front_list {
	const char *first;
	size_t count;
	size_t skip; /* length of that word and the space */
};

struct front {
	uint64_t dev, ino, size, mtime_ns, ctime_ns;
	const char *identity; /* the five numbers and the path, as written */
	const char *config;
	struct front_list runtimes, asks;
};

static inline const char *front_next(const struct front_list *list, const char *value)
{
	return value + strlen(value) + 1 + list->skip;
}

/* Parse in place; `out` points into `text`. False if anything is not as it should be. */
bool front_parse(char *text, size_t len, const char *version, struct front *out);

/* Whether a JSON document may hold one of the strings asked for, plain or by escapes. */
bool front_may_ask(const struct front *front, const char *json, size_t len);

/* Read the front file and see whether it counts: nobody else's, of this version, of the file
 * `config` as it is now. `file` keeps its text. */
bool front_load(const char *version, const char *config, struct file *file, struct front *out);

/* Where config.toml is, by the environment. False if that is no path. */
bool front_config(char out[PATH_MAX]);
