/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_plan.h"

/* --- finding the directory (parent) ------------------------------------------------------- */

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

/* The process's path in the devices hierarchy, from lines "id:controllers:path". */
static int find_path(int pid, char *out, size_t size, struct nvc_error *err)
{
	char name[64];
	nvc_autofree char *line = NULL;
	size_t room = 0;

	(void)snprintf(name, sizeof name, "/proc/%d/cgroup", pid);
	nvc_autofile FILE *file = fopen(name, "re");
	if (file == NULL)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", name);
	while (getline(&line, &room, file) > 0) {
		char *controllers = strchr(line, ':');
		char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
		if (path == NULL)
			continue;
		*path++ = '\0';
		if (!lists(controllers + 1, "devices"))
			continue;
		path[strcspn(path, "\n")] = '\0';
		nvc_copy(out, size, path);
		return 0;
	}
	return nvc_fail(err, NVC_ECGROUP, "find", name,
	                "no devices cgroup (version 1): version 2 is not supported yet; let the "
	                "engine list the devices and use --no-cgroups");
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

/* Split a mountinfo line; false unless it is the version 1 devices hierarchy. */
static bool parse_mount(char *line, char **root, char **point)
{
	char *save = NULL, *dash = strstr(line, " - "), *rest = NULL;

	if (dash == NULL)
		return false;
	*dash = '\0';
	const char *type = strtok_r(dash + 3, " ", &rest);
	const char *source = strtok_r(NULL, " ", &rest);
	const char *options = strtok_r(NULL, " \n", &rest);
	if (type == NULL || source == NULL || options == NULL || strcmp(type, "cgroup") != 0 ||
	    !lists(options, "devices"))
		return false;
	for (int field = 0; field < 3; field++) {
		if (strtok_r(field == 0 ? line : NULL, " ", &save) == NULL)
			return false;
	}
	*root = strtok_r(NULL, " ", &save);
	*point = strtok_r(NULL, " ", &save);
	if (*root == NULL || *point == NULL)
		return false;
	unescape(*root);
	unescape(*point);
	return true;
}

/* Where the hierarchy is mounted for us, with the part of `path` that the mount does not show
 * taken off. */
static int join_mount(char *path, char *out, size_t size, struct nvc_error *err)
{
	nvc_autofree char *line = NULL;
	size_t room = 0;
	nvc_autofile FILE *file = fopen("/proc/self/mountinfo", "re");

	if (file == NULL)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", "/proc/self/mountinfo");
	while (getline(&line, &room, file) > 0) {
		char *root, *point;
		size_t skip;

		if (!parse_mount(line, &root, &point))
			continue;
		skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
		if (strncmp(path, root, skip) != 0 || (path[skip] != '/' && path[skip] != '\0'))
			continue;
		if ((size_t)snprintf(out, size, "%s%s", point, path + skip) < size)
			return 0;
	}
	return nvc_fail(err, NVC_ECGROUP, "find", path,
	                "the devices cgroup hierarchy is not mounted here");
}

int nvc_cgroup_open(int pid, struct nvc_error *err)
{
	char path[PATH_MAX], full[PATH_MAX];
	int fd;

	if (find_path(pid, path, sizeof path, err) < 0 ||
	    join_mount(path, full, sizeof full, err) < 0)
		return -1;
	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? nvc_fail_errno(err, NVC_ECGROUP, "open", full) : fd;
}

/* --- rules (child) --------------------------------------------------------------------------- */

static const char *read_number(const char *at, uint32_t *out, bool *any)
{
	*any = *at == '*';
	if (*any)
		return at + 1;
	for (*out = 0; *at >= '0' && *at <= '9'; at++)
		*out = *out * 10 + (uint32_t)(*at - '0');
	return at;
}

static uint32_t read_access(const char *at)
{
	uint32_t access = 0;

	for (; *at == 'r' || *at == 'w' || *at == 'm'; at++)
		access |= *at == 'r' ? NVC_OP_READ : *at == 'w' ? NVC_OP_WRITE : NVC_OP_MKNOD;
	return access;
}

/* One line of devices.list: "c 195:0 rw", "a *:* rwm". `*exact` is set for the rule of this very
 * device, which is the one that devices.allow adds to. Returns the accesses it grants. */
static uint32_t granted(const char *line, const struct nvc_device_rule *rule, bool *exact)
{
	uint32_t major = 0, minor = 0;
	bool any_major, any_minor;

	*exact = false;
	if ((line[0] != 'c' && line[0] != 'a') || line[1] != ' ')
		return 0;
	line = read_number(line + 2, &major, &any_major);
	if (*line != ':')
		return 0;
	line = read_number(line + 1, &minor, &any_minor);
	if (*line != ' ' || (!any_major && major != rule->major) ||
	    (!any_minor && minor != rule->minor))
		return 0;
	*exact = !any_major && !any_minor;
	return read_access(line + 1);
}

int nvc_cgroup_missing(int cgroup_fd, const struct nvc_device_rule *rule, uint32_t *missing,
                       struct nvc_error *err)
{
	char text[16384];
	size_t len = 0;
	ssize_t got;
	nvc_autofd int fd = openat(cgroup_fd, "devices.list", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", "devices.list");
	while ((got = read(fd, text + len, sizeof text - 1 - len)) > 0)
		len += (size_t)got;
	if (got < 0)
		return nvc_fail_errno(err, NVC_ECGROUP, "read", "devices.list");
	text[len] = '\0';
	*missing = rule->access;
	for (const char *line = text; *line != '\0';) {
		bool exact;
		uint32_t access = granted(line, rule, &exact);

		if ((access & rule->access) == rule->access) {
			*missing = 0;
			return 0;
		}
		if (exact)
			*missing &= ~access;
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	return 0;
}

static char *put_number(char *at, uint32_t value)
{
	char text[12], *digit = text + sizeof text;

	do {
		*--digit = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	size_t len = (size_t)(text + sizeof text - digit);
	memcpy(at, digit, len);
	return at + len;
}

static int write_rule(int cgroup_fd, const char *file, const struct nvc_device_rule *rule,
                      struct nvc_error *err)
{
	char text[48] = "c ", *at = text + 2;
	nvc_autofd int fd = openat(cgroup_fd, file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return nvc_fail_errno(err, NVC_ECGROUP, "open", file);
	at = put_number(at, rule->major);
	*at++ = ':';
	at = put_number(at, rule->minor);
	*at++ = ' ';
	if ((rule->access & NVC_OP_READ) != 0)
		*at++ = 'r';
	if ((rule->access & NVC_OP_WRITE) != 0)
		*at++ = 'w';
	if ((rule->access & NVC_OP_MKNOD) != 0)
		*at++ = 'm';
	if (write(fd, text, (size_t)(at - text)) != at - text)
		return nvc_fail_errno(err, NVC_ECGROUP, "write", file);
	return 0;
}

int nvc_cgroup_allow(int cgroup_fd, const struct nvc_device_rule *rule, struct nvc_error *err)
{
	return write_rule(cgroup_fd, "devices.allow", rule, err);
}

int nvc_cgroup_deny(int cgroup_fd, const struct nvc_device_rule *rule, struct nvc_error *err)
{
	return write_rule(cgroup_fd, "devices.deny", rule, err);
}
