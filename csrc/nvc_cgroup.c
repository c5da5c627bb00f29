/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/statfs.h>

#include "nvc_cleanup.h"

/* Where a process is in each hierarchy; "" where it is in none. */
struct places {
	char v1[PATH_MAX], v2[PATH_MAX];
};

/* A hierarchy as the mount table shows it. */
struct hierarchy {
	int version; /* 0: not one that rules devices */
	char *root, *point;
};

/* Whether a comma-separated list holds a word. */
static bool lists(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (;;) {
		size_t n = strcspn(list, ",\n");
		if (n == len && memcmp(list, word, len) == 0)
			return true;
		if (list[n] != ',')
			return false;
		list += n + 1;
	}
}

static FILE *open_file(int dir_fd, const char *name)
{
	nvc_autofd int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (file != NULL)
		(void)nvc_steal_fd(&fd);
	return file;
}

/* Read lines "id:controllers:path"; version 2 has id 0 and no controllers. */
static int find_places(int proc_fd, struct places *out, struct nvc_error *err)
{
	nvc_autofree char *line = NULL;
	size_t room = 0;
	nvc_autofile FILE *file = open_file(proc_fd, "cgroup");

	if (file == NULL)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", "cgroup of the process");
	while (getline(&line, &room, file) > 0) {
		char *controllers = strchr(line, ':');
		char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
		if (path == NULL)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (lists(controllers + 1, "devices"))
			nvc_copy(out->v1, sizeof out->v1, path);
		else if (strncmp(line, "0:", 2) == 0)
			nvc_copy(out->v2, sizeof out->v2, path);
	}
	return 0;
}

/* Undo the octal escapes of mountinfo, in place. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text != '\0'; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
		    text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
			*to++ = (char)(((text[1] - '0') << 6) | ((text[2] - '0') << 3) |
			               (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* Split a line of mountinfo. */
static struct hierarchy parse_mount(char *line)
{
	struct hierarchy found = {.version = 0};
	char *save = NULL, *dash = strstr(line, " - "), *rest = NULL;

	if (dash == NULL)
		return found;
	*dash = '\0';
	const char *type = strtok_r(dash + 3, " ", &rest);
	const char *source = strtok_r(NULL, " ", &rest);
	const char *options = strtok_r(NULL, " \n", &rest);
	for (int field = 0; field < 3; field++) {
		if (strtok_r(field == 0 ? line : NULL, " ", &save) == NULL)
			return found;
	}
	found.root = strtok_r(NULL, " ", &save);
	found.point = strtok_r(NULL, " ", &save);
	if (type == NULL || source == NULL || options == NULL || found.point == NULL)
		return found;
	unescape(found.root);
	unescape(found.point);
	if (strcmp(type, "cgroup2") == 0)
		found.version = 2;
	else if (strcmp(type, "cgroup") == 0 && lists(options, "devices"))
		found.version = 1;
	return found;
}

/* Open the cgroup `path` of a hierarchy, as far as this mount shows it. A mount further down the
 * table may cover this one: the file system tells. */
static int open_place(const struct hierarchy *at, const char *path, char *full, size_t size)
{
	size_t skip = strcmp(at->root, "/") == 0 ? 0 : strlen(at->root);
	struct statfs fs;

	if (path[0] == '\0' || strncmp(path, at->root, skip) != 0 ||
	    (path[skip] != '/' && path[skip] != '\0') ||
	    (size_t)snprintf(full, size, "%s%s", at->point, path + skip) >= size)
		return -1;
	nvc_autofd int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -1;
	if (fs.f_type != (at->version == 1 ? CGROUP_SUPER_MAGIC : CGROUP2_SUPER_MAGIC) ||
	    (at->version == 1 && faccessat(fd, "devices.list", F_OK, 0) < 0))
		return -1;
	return nvc_steal_fd(&fd);
}

static int is_callers(const char *v2, bool *out, struct nvc_error *err)
{
	struct places own = {"", ""};
	nvc_autofd int self_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (self_fd < 0 || find_places(self_fd, &own, err) < 0)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", "/proc/self");
	*out = strcmp(own.v2, v2) == 0;
	return 0;
}

int nvc_cgroup_open(int proc_fd, struct nvc_cgroup *out, struct nvc_error *err)
{
	struct places places = {"", ""};
	nvc_autofree char *line = NULL;
	size_t room = 0;

	if (find_places(proc_fd, &places, err) < 0)
		return -1;
	nvc_autofile FILE *table = open_file(AT_FDCWD, "/proc/self/mountinfo");
	if (table == NULL)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", "/proc/self/mountinfo");
	while (getline(&line, &room, table) > 0) {
		struct hierarchy at = parse_mount(line);
		if (at.version == 1 && out->v1_fd < 0)
			out->v1_fd = open_place(&at, places.v1, out->v1_path, PATH_MAX);
		if (at.version == 2 && out->v2_fd < 0)
			out->v2_fd = open_place(&at, places.v2, out->v2_path, PATH_MAX);
	}
	if (out->v1_fd < 0 && out->v2_fd < 0)
		return nvc_fail(
		    err, NVC_ECGROUP, "find", NULL,
		    "no cgroup of the container that rules devices is mounted here "
		    "(looked for cgroup2, and cgroup with devices): let the engine list "
		    "the devices and use --no-cgroups");
	/* A program on the root would rule the whole host; only the root lacks this file. */
	if (out->v2_fd >= 0 && faccessat(out->v2_fd, "cgroup.events", F_OK, 0) < 0)
		nvc_close_fd(&out->v2_fd);
	return is_callers(places.v2, &out->is_own, err);
}

void nvc_cgroup_close(struct nvc_cgroup *cgroup)
{
	nvc_close_fd(&cgroup->v1_fd);
	nvc_close_fd(&cgroup->v2_fd);
}
