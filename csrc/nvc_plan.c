/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_plan.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#define KNOWN_FLAGS                                                                                \
	(NVC_OP_RDONLY | NVC_OP_NODEV | NVC_OP_NOSUID | NVC_OP_NOEXEC | NVC_OP_IS_DIR |            \
	 NVC_OP_IS_SOCKET | NVC_OP_REPLACE | NVC_OP_READ | NVC_OP_WRITE | NVC_OP_MKNOD |           \
	 NVC_OP_IN_PLACE)
#define KNOWN_MODE 0777u
#define MAX_MAJOR  ((1u << 12) - 1)
#define MAX_MINOR  ((1u << 20) - 1)

static int malformed(struct nvc_error *err, const char *why)
{
	return nvc_fail(err, NVC_EMALFORMED, "parse", "plan", why);
}

static int refused(struct nvc_error *err, const char *path, const char *why)
{
	return nvc_fail(err, NVC_EINVAL, "check", path, why);
}

static bool is_string(const struct nvc_plan *plan, uint32_t offset)
{
	return offset < plan->text_len &&
	       memchr(plan->text + offset, '\0', plan->text_len - offset) != NULL;
}

static bool has_control(const char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	}
	return false;
}

static bool has_parent_component(const char *path)
{
	for (const char *at = path; (at = strstr(at, "/..")) != NULL; at += 3) {
		if (at[3] == '/' || at[3] == '\0')
			return true;
	}
	return false;
}

static int check_path(const char *path, struct nvc_error *err)
{
	if (path[0] != '/' || path[1] == '\0')
		return refused(err, path, "not an absolute path below the root");
	if (strlen(path) >= PATH_MAX)
		return refused(err, path, "path too long");
	if (has_control(path))
		return refused(err, path, "control character in a path");
	if (has_parent_component(path))
		return refused(err, path, "'..' in a path");
	return 0;
}

/* Check the directories and libraries of a loader cache. */
static int check_loader(const struct nvc_plan *plan, const struct nvc_op *op, struct nvc_error *err)
{
	const char *at = nvc_plan_text(plan, op->data), *end = at + op->data_len;
	uint32_t strings = 0;

	if (op->data_len > 0 && end[-1] != '\0')
		return malformed(err, "a list does not end");
	if (op->count > NVC_PLAN_DIRECTORIES)
		return refused(err, nvc_plan_text(plan, op->path), "too many directories");
	for (; at < end; at = nvc_plan_next(at), strings++) {
		uint32_t field = strings < op->count ? 1 : (strings - op->count) % 3;
		if (field == 1 && check_path(at, err) < 0)
			return -1;
		if (field == 0 && (at[0] == '\0' || strchr(at, '/') != NULL || has_control(at)))
			return refused(err, at, "not the name of a library");
		if (field == 2 && strcmp(at, "64") != 0 && strcmp(at, "32") != 0)
			return refused(err, at, "not the bits of a library");
	}
	if (strings < op->count || (strings - op->count) % 3 != 0)
		return malformed(err, "a list is not complete");
	return 0;
}

static int check_op(const struct nvc_plan *plan, const struct nvc_op *op, struct nvc_error *err)
{
	uint32_t end;

	if (!is_string(plan, op->path) || !is_string(plan, op->arg) ||
	    !is_string(plan, op->origin) || __builtin_add_overflow(op->data, op->data_len, &end) ||
	    end > plan->text_len)
		return malformed(err, "an offset points outside");
	const char *path = nvc_plan_text(plan, op->path), *arg = nvc_plan_text(plan, op->arg);
	if ((op->flags & ~KNOWN_FLAGS) != 0 || (op->mode & ~KNOWN_MODE) != 0)
		return refused(err, path, "unknown flag or mode");
	if (op->major > MAX_MAJOR || op->minor > MAX_MINOR)
		return refused(err, path, "device number out of range");
	if (op->kind != NVC_OP_DEVICE_ACCESS && check_path(path, err) < 0)
		return -1;
	switch (op->kind) {
	case NVC_OP_TMPFS:
	case NVC_OP_DEVICE_NODE:
		return arg[0] == '\0' ? 0 : check_path(arg, err);
	case NVC_OP_BIND_MOUNT:
		return check_path(arg, err);
	case NVC_OP_SYMLINK:
		if (arg[0] == '\0' || strlen(arg) >= PATH_MAX || has_control(arg))
			return refused(err, path, "unusable link target");
		return 0;
	case NVC_OP_LOADER_CACHE:
		return check_loader(plan, op, err);
	case NVC_OP_DEVICE_ACCESS:
		if (op->count == 0 || op->count - 1 > MAX_MINOR - op->minor)
			return refused(err, path, "device number out of range");
		return 0;
	case NVC_OP_DIRECTORY:
	case NVC_OP_WRITE_FILE:
		return 0;
	default:
		return refused(err, path, "unknown operation");
	}
}

int nvc_plan_open(const uint8_t *buf, size_t len, struct nvc_plan *out, struct nvc_error *err)
{
	struct nvc_plan_header header;
	size_t ops_len, need;

	if (len < sizeof header)
		return malformed(err, "too short");
	if ((uintptr_t)buf % _Alignof(struct nvc_op) != 0)
		return nvc_fail(err, NVC_EINTERNAL, "parse", "plan", "misaligned buffer");
	memcpy(&header, buf, sizeof header);
	if (memcmp(header.magic, NVC_PLAN_MAGIC, sizeof header.magic) != 0)
		return malformed(err, "not a plan");
	if (header.schema != NVC_PLAN_SCHEMA || header.op_size != sizeof(struct nvc_op))
		return malformed(err, "another schema version");
	if (__builtin_mul_overflow((size_t)header.count, sizeof(struct nvc_op), &ops_len) ||
	    __builtin_add_overflow(ops_len, sizeof header + header.text_len, &need) || need != len)
		return malformed(err, "sizes do not add up");
	out->ops = (const struct nvc_op *)(const void *)(buf + sizeof header);
	out->count = header.count;
	out->text = (const char *)buf + sizeof header + ops_len;
	out->text_len = header.text_len;
	if (out->text_len == 0 || out->text[0] != '\0')
		return malformed(err, "no text");
	for (uint32_t i = 0; i < out->count; i++) {
		if (check_op(out, &out->ops[i], err) < 0) {
			err->op_index = (int)i;
			return -1;
		}
	}
	return 0;
}

bool nvc_plan_has(const struct nvc_plan *plan, uint32_t kind)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == kind)
			return true;
	}
	return false;
}
