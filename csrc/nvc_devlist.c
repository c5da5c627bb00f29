/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_devlist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "nvc_plan.h"
#include "nvc_text.h"

#define LIST  "/devices.list"
#define ALLOW "/devices.allow"
#define DENY  "/devices.deny"

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

static int fail(const struct nvc_cgroup *cgroup, const char *step, const char *file,
                struct nvc_error *err)
{
	return nvc_fail_errno_at(err, NVC_ECGROUP, step, cgroup->v1_path, file);
}

/* The kernel tells no size; that of a list of all devices there are is far below this. */
#define LIST_MAX ((size_t)64 << 20)

static int read_list(const struct nvc_cgroup *cgroup, struct nvc_arena *out, struct nvc_error *err)
{
	nvc_autofd int fd = openat(cgroup->v1_fd, LIST + 1, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(cgroup, "open", LIST, err);
	if (nvc_arena_open(out, LIST_MAX) < 0)
		return fail(cgroup, "memory", LIST, err);
	ssize_t len = nvc_read_all(fd, out->base, LIST_MAX - 1);
	if (len < 0)
		return fail(cgroup, "read", LIST, err);
	out->base[len] = '\0';
	return 0;
}

int nvc_devlist_open(const struct nvc_cgroup *cgroup, struct nvc_devlist *out,
                     struct nvc_error *err)
{
	if (read_list(cgroup, &out->text, err) < 0)
		return -1;
	out->allow_fd = openat(cgroup->v1_fd, ALLOW + 1, O_WRONLY | O_CLOEXEC);
	return out->allow_fd < 0 ? fail(cgroup, "open", ALLOW, err) : 0;
}

void nvc_devlist_close(struct nvc_devlist *list)
{
	nvc_arena_close(&list->text);
	nvc_close_fd(&list->allow_fd);
}

uint32_t nvc_devlist_missing(const struct nvc_devlist *list, const struct nvc_device_rule *rule)
{
	uint32_t missing = rule->access;
	const char *line = (const char *)list->text.base, *end;

	for (; missing != 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
		bool exact;
		uint32_t access = granted(line, rule, &exact);

		if ((access & rule->access) == rule->access)
			missing = 0;
		else if (exact)
			missing &= ~access;
	}
	return missing;
}

static char *put_number(char *at, uint32_t value)
{
	char text[16];
	const char *digits = nvc_digits(text + sizeof text, value, 10);
	size_t len = strlen(digits);

	memcpy(at, digits, len);
	return at + len;
}

static int write_rule(const struct nvc_cgroup *cgroup, int fd, const char *file,
                      const struct nvc_device_rule *rule, struct nvc_error *err)
{
	char text[48] = "c ", *at = text + 2;

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
	return write(fd, text, (size_t)(at - text)) != at - text ? fail(cgroup, "write", file, err)
	                                                         : 0;
}

int nvc_devlist_allow(const struct nvc_cgroup *cgroup, const struct nvc_devlist *list,
                      const struct nvc_device_rule *rule, struct nvc_error *err)
{
	return write_rule(cgroup, list->allow_fd, ALLOW, rule, err);
}

int nvc_devlist_deny(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                     struct nvc_error *err)
{
	nvc_autofd int fd = openat(cgroup->v1_fd, DENY + 1, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? fail(cgroup, "open", DENY, err) : write_rule(cgroup, fd, DENY, rule, err);
}
