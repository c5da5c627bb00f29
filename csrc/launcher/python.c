/* SPDX-License-Identifier: Apache-2.0 */
#include "python.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "say.h"

#define SCRIPT "nvidia-ctk"

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

char *python_find(char *script)
{
	/* Where a path is long or has spaces, the shell runs the interpreter. */
	static const char shell[] = "#!/bin/sh\n'''exec' ";
	char *path = script, end = ' ', *line_end;

	if (starts(script, shell)) {
		path += sizeof shell - 1;
		if (*path == '"') {
			path++;
			end = '"';
		}
	} else if (starts(script, "#!")) {
		path += 2;
	} else {
		return NULL;
	}
	line_end = strchr(path, '\n');
	if (line_end == NULL)
		return NULL;
	*line_end = '\0';
	path[strcspn(path, (char[]){end, '\0'})] = '\0';
	/* That one takes other options, and looks in $PATH. */
	return path[0] == '/' && strcmp(self_base(path), "env") != 0 ? path : NULL;
}

/* Read the beginning of the script beside the program. */
static bool read_script(const struct self *self, char *out, size_t size)
{
	nvc_autofd int dir_fd = open(self->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	nvc_autofd int fd = openat(dir_fd, SCRIPT, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	ssize_t len;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	len = nvc_read_all(fd, out, size - 1);
	if (len < 0)
		return false;
	out[len] = '\0';
	return true;
}

int python_exec(const struct self *self, const char *program, char *const *arguments,
                char *const *environment)
{
	char script[PATH_MAX + 64], *interpreter = NULL;
	size_t count = 0, at = 0;

	if (read_script(self, script, sizeof script))
		interpreter = python_find(script);
	if (interpreter == NULL) {
		say(self_base(self->name),
		    "%s" SCRIPT ": names no Python interpreter: install libnvc anew",
		    self->directory);
		return 1;
	}
	while (arguments[count] != NULL)
		count++;
	const char **words = calloc(count + 7, sizeof *words);
	if (words == NULL) {
		say(self_base(self->name), "out of memory");
		return 1;
	}
	words[at++] = interpreter;
	words[at++] = "-I";
	words[at++] = "-c";
	words[at++] = program;
	words[at++] = self->path;
	words[at++] = self->name;
	for (size_t i = 0; i < count; i++)
		words[at++] = arguments[i];
	(void)execve(interpreter, (char *const *)(const void *)words, environment);
	int failed = errno;
	say(self_base(self->name), "could not exec '%s', as %s" SCRIPT " names it: %s: %s",
	    interpreter, self->directory, strerror(failed),
	    failed == EACCES ? "let everyone read and pass the directories it is installed in"
	                     : "install libnvc anew");
	free(words);
	return 1;
}
