/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_devlist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_plan.h"
#include "nvc_text.h"

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

/* Take what the complete lines of a text grant out of what is missing; a line that grants all of it
 * ends the search. Returns how much of the text they are. */
static size_t take_lines(const char *text, const struct nvc_device_rule *rule, uint32_t *missing)
{
	const char *line = text, *end;

	for (; *missing != 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
		bool exact;
		uint32_t access = granted(line, rule, &exact);

		if ((access & rule->access) == rule->access)
			*missing = 0;
		else if (exact)
			*missing &= ~access;
	}
	return (size_t)(line - text);
}

/* The list has no limit: it is read in pieces, of which a line is a small part. */
int nvc_devlist_missing(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                        uint32_t *missing, struct nvc_error *err)
{
	char text[16384];
	size_t len = 0;
	ssize_t got = 0;
	nvc_autofd int fd = openat(cgroup->v1_fd, "devices.list", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return nvc_fail_errno_at(err, NVC_ECGROUP, "open", cgroup->v1_path,
		                         "/devices.list");
	*missing = rule->access;
	while (*missing != 0 && (got = read(fd, text + len, sizeof text - 1 - len)) > 0) {
		len += (size_t)got;
		text[len] = '\0';
		size_t used = take_lines(text, rule, missing);
		len -= used;
		memmove(text, text + used, len);
	}
	if (got < 0)
		return nvc_fail_errno_at(err, NVC_ECGROUP, "read", cgroup->v1_path,
		                         "/devices.list");
	return 0;
}

static char *put_number(char *at, uint32_t value)
{
	char text[16];
	const char *digits = nvc_digits(text + sizeof text, value, 10);
	size_t len = strlen(digits);

	memcpy(at, digits, len);
	return at + len;
}

static int write_rule(const struct nvc_cgroup *cgroup, const char *file,
                      const struct nvc_device_rule *rule, struct nvc_error *err)
{
	char text[48] = "c ", *at = text + 2;
	nvc_autofd int fd = openat(cgroup->v1_fd, file + 1, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return nvc_fail_errno_at(err, NVC_ECGROUP, "open", cgroup->v1_path, file);
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
		return nvc_fail_errno_at(err, NVC_ECGROUP, "write", cgroup->v1_path, file);
	return 0;
}

int nvc_devlist_allow(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                      struct nvc_error *err)
{
	return write_rule(cgroup, "/devices.allow", rule, err);
}

int nvc_devlist_deny(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                     struct nvc_error *err)
{
	return write_rule(cgroup, "/devices.deny", rule, err);
}
