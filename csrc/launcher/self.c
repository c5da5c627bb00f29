/* SPDX-License-Identifier: Apache-2.0 */
#include "self.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "nvc_cleanup.h"

static const struct {
	const char *name;
	enum role role;
} names[] = {
    {"nvidia-container-runtime", ROLE_RUNTIME},
    {"nvidia-container-runtime.cdi", ROLE_RUNTIME},
    {"nvidia-container-runtime.legacy", ROLE_RUNTIME},
    {"nvidia-container-runtime-hook", ROLE_HOOK},
    {"nvidia-container-toolkit", ROLE_HOOK},
    {"nvidia-cdi-hook", ROLE_CDI_HOOK},
    {"nvidia-container-cli", ROLE_CLI},
};

#define NAMES (sizeof names / sizeof *names)

const char *self_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

static enum role role_of(const char *path)
{
	for (size_t i = 0; i < NAMES; i++) {
		if (strcmp(self_base(path), names[i].name) == 0)
			return names[i].role;
	}
	return ROLE_NONE;
}

enum role self_open(const char *called, struct self *out)
{
	ssize_t len = readlink("/proc/self/exe", out->path, sizeof out->path - 1);
	enum role role = called == NULL ? ROLE_NONE : role_of(called);

	out->path[len > 0 ? len : 0] = '\0';
	memcpy(out->directory, out->path, sizeof out->directory);
	out->directory[self_base(out->path) - out->path] = '\0';
	out->name = called;
	if (role != ROLE_NONE)
		return role;
	out->name = out->path;
	return role_of(out->path);
}

/* The names are copies of one program, not links. */
bool self_is(const struct self *self, const struct stat *st)
{
	nvc_autofd int dir_fd = open(self->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat own;

	if (stat("/proc/self/exe", &own) < 0 ||
	    (own.st_dev == st->st_dev && own.st_ino == st->st_ino))
		return true;
	for (size_t i = 0; i < NAMES; i++) {
		if (fstatat(dir_fd, names[i].name, &own, 0) == 0 && own.st_dev == st->st_dev &&
		    own.st_ino == st->st_ino)
			return true;
	}
	return false;
}
