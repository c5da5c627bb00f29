/* SPDX-License-Identifier: Apache-2.0 */
/* The flat form of a plan: one buffer, native byte order, no pointers, so that it can be kept in
 * a file and applied without an interpreter.
 *
 *     struct nvc_plan_header, count x struct nvc_op, text
 *
 * `path`, `arg`, `data`, `origin` are offsets into `text`, which starts with an empty string, so
 * that 0 means "none". Strings end with NUL inside it. Privileges: none. Fork class: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nvc_error.h"

#define NVC_PLAN_MAGIC  "nvcplan"
#define NVC_PLAN_SCHEMA 4u

enum nvc_op_kind {
	NVC_OP_TMPFS = 1,     /* path, mode; arg: fallback path */
	NVC_OP_DIRECTORY,     /* path, mode */
	NVC_OP_WRITE_FILE,    /* path, mode; data: content */
	NVC_OP_BIND_MOUNT,    /* path, flags; arg: source on the host */
	NVC_OP_DEVICE_NODE,   /* path, major, minor, mode; arg: the host's node, or none: mknod */
	NVC_OP_DEVICE_ACCESS, /* major, first minor, count of minors, flags */
	NVC_OP_SYMLINK,       /* path, flags; arg: target text */
	NVC_OP_LOADER_CACHE,  /* path of the cache; data: `count` directories, then for each library
	                       * its name, path and bits ("64", "32"); each string ended by NUL */
};

#define NVC_OP_RDONLY    0x0001u
#define NVC_OP_NODEV     0x0002u
#define NVC_OP_NOSUID    0x0004u
#define NVC_OP_NOEXEC    0x0008u
#define NVC_OP_IS_DIR    0x0010u
#define NVC_OP_IS_SOCKET 0x0020u
#define NVC_OP_REPLACE   0x0040u
#define NVC_OP_READ      0x0100u
#define NVC_OP_WRITE     0x0200u
#define NVC_OP_MKNOD     0x0400u
#define NVC_OP_IN_PLACE  0x0800u /* directories of a LOADER_CACHE keep the place they have */

struct nvc_op {
	uint32_t kind, flags, mode, major, minor, count;
	uint32_t path, arg, data, data_len, origin;
};

struct nvc_plan_header {
	char magic[8];
	uint32_t schema;
	uint32_t count;
	uint32_t op_size;
	uint32_t text_len;
};

struct nvc_plan {
	const struct nvc_op *ops;
	uint32_t count;
	const char *text;
	uint32_t text_len;
};

/* Check everything about a flat plan that does not need a file system: NVC_EMALFORMED for a
 * broken buffer; NVC_EINVAL, with the operation's index, for a path that is not absolute, has a
 * ".." component or a control character, or for an unknown kind, flag or mode. `buf` must be
 * aligned to 4 and outlive `out`. */
int nvc_plan_open(const uint8_t *buf, size_t len, struct nvc_plan *out, struct nvc_error *err);

/* Whether a plan has an operation of a kind. */
bool nvc_plan_has(const struct nvc_plan *plan, uint32_t kind);

#define NVC_PLAN_DIRECTORIES 64u /* most directories of a LOADER_CACHE */

/* The string behind one of `data`. */
static inline const char *nvc_plan_next(const char *text)
{
	return text + strlen(text) + 1;
}

static inline const char *nvc_plan_text(const struct nvc_plan *plan, uint32_t offset)
{
	return plan->text + offset;
}
