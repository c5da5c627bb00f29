/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "create.h"
#include "nvc_cleanup.h"
#include "python.h"

#define DOCUMENT_MAX (16u << 20)

static void read_command(char *const *arguments, struct command *out)
{
	bool is_bundle = false;

	*out = (struct command){.bundle = ".", .words = arguments};
	for (; *arguments != NULL; arguments++) {
		const char *text = *arguments, *word = text + strspn(text, "-");
		size_t len = strcspn(word, "=");
		bool is_flag = word > text && ((len == 1 && word[0] == 'b') ||
		                               (len == 6 && strncmp(word, "bundle", len) == 0));

		out->is_create = out->is_create || strcmp(text, "create") == 0;
		out->is_version =
		    out->is_version || (len == 7 && strncmp(word, "version", len) == 0);
		if (is_bundle)
			out->bundle = text;
		else if (is_flag && word[len] == '=')
			out->bundle = word + len + 1;
		is_bundle = !is_bundle && is_flag && word[len] == '\0';
	}
	out->is_dangling = is_bundle;
	if (out->bundle[0] == '\0')
		out->bundle = ".";
}

/* Whether nothing is left to do for a container that is created: it asks for nothing, or has been
 * given what it asks for. */
static bool is_done(const struct self *self, const struct front *front,
                    const struct command *command)
{
	auto_file struct file document = {.data = NULL};
	char path[PATH_MAX];
	int len = snprintf(path, sizeof path, "%s/config.json", command->bundle);

	return len > 0 && (size_t)len < sizeof path &&
	       file_read(AT_FDCWD, path, 0, DOCUMENT_MAX, &document) == 0 &&
	       (!front_may_ask(front, document.data, document.len) ||
	        create_kept(self, front, command, &document));
}

static bool is_runtime(const struct self *self, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISDIR(st.st_mode) && (st.st_mode & 0111) != 0 &&
	       !self_is(self, &st);
}

/* Look a program up in directories that a list names, with colons between them. */
static bool search(const struct self *self, const char *list, const char *name, char out[PATH_MAX])
{
	for (const char *at = list; at != NULL;) {
		int len = (int)strcspn(at, ":");
		int need = snprintf(out, PATH_MAX, "%.*s/%s", len, at, name);
		/* Nothing from where we happen to be. */
		if (at[0] == '/' && need > 0 && need < PATH_MAX && is_runtime(self, out))
			return true;
		at = at[len] == ':' ? at + len + 1 : NULL;
	}
	return false;
}

static bool find_runtime(const struct self *self, const struct front *front, char out[PATH_MAX])
{
	const char *candidate = front->runtimes.first, *path = getenv("PATH");

	for (size_t i = 0; i < front->runtimes.count; i++) {
		if (strchr(candidate, '/') != NULL) {
			if (strlen(candidate) < PATH_MAX && is_runtime(self, candidate)) {
				memcpy(out, candidate, strlen(candidate) + 1);
				return true;
			}
		} else if (search(self, path, candidate, out) ||
		           search(self, STANDARD_PATH, candidate, out)) {
			return true;
		}
		candidate = front_next(&front->runtimes, candidate);
	}
	return false;
}

/* Replace the process by the low-level runtime; returns if that is not to be, or fails. */
static void pass_through(const struct self *self, char *const *arguments)
{
	auto_file struct file file = {.data = NULL};
	struct command command;
	struct front front;
	char config[PATH_MAX], path[PATH_MAX];
	size_t count = 0;

	read_command(arguments, &command);
	if (command.is_version || !front_config(config) ||
	    !front_load(NVC_VERSION, config, &file, &front))
		return;
	if (!find_runtime(self, &front, path))
		return;
	if (command.is_create && (command.is_dangling || !is_done(self, &front, &command)))
		return;
	while (arguments[count] != NULL)
		count++;
	nvc_autofree char **words = calloc(count + 2, sizeof *words);
	if (words == NULL)
		return;
	words[0] = path;
	memcpy(words + 1, arguments, count * sizeof *words);
	(void)execve(path, words, environ);
}

int runtime_run(const struct self *self, char *const *arguments)
{
	pass_through(self, arguments);
	/* The environment is for the low-level runtime; -I ignores what would change Python. */
	return python_exec(self, "from libnvc.cli.runtime import run; run()", arguments, environ);
}
