/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ldcache.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#define OLD_MAGIC "ld.so-1.7.0"
#define NEW_MAGIC "glibc-ld.so.cache1.1"

/* The file's records. All fields are naturally aligned, so the structs have no padding; they are
 * copied out because the buffer need not be aligned. */
struct old_header {
	char magic[12]; /* without NUL: one byte of padding */
	uint32_t count;
};

struct old_entry {
	uint32_t flags, soname, path;
};

struct new_header {
	char magic[20];
	uint32_t count;
	uint32_t strings_size;
	uint32_t unused[5]; /* byte order and extensions since glibc 2.33 */
};

struct new_entry {
	uint32_t flags, soname, path, os_version;
	uint64_t hwcap;
};

_Static_assert(sizeof(struct old_header) == 16 && sizeof(struct old_entry) == 12, "format");
_Static_assert(sizeof(struct new_header) == 48 && sizeof(struct new_entry) == 24, "format");

static int malformed(struct nvc_error *err, const char *step)
{
	return nvc_fail(err, NVC_EMALFORMED, step, NULL, "unsupported file format");
}

static bool has_magic(const uint8_t *buf, size_t len, const char *magic)
{
	size_t magic_len = strlen(magic);

	return len >= magic_len && memcmp(buf, magic, magic_len) == 0;
}

/* Find the end of the old part, where the new header starts. */
static int skip_old(const uint8_t *buf, size_t len, size_t *end, struct nvc_error *err)
{
	struct old_header header;
	size_t size;

	if (len < sizeof header)
		return malformed(err, "old header");
	memcpy(&header, buf, sizeof header);
	if (__builtin_mul_overflow(header.count, sizeof(struct old_entry), &size) ||
	    __builtin_add_overflow(size, sizeof header + 7, &size))
		return malformed(err, "old header");
	size &= ~(size_t)7;
	if (size > len)
		return malformed(err, "old header");
	*end = size;
	return 0;
}

int nvc_ldcache_open(const uint8_t *buf, size_t len, struct nvc_ldcache *out, struct nvc_error *err)
{
	struct new_header header;
	size_t base = 0;

	if (has_magic(buf, len, OLD_MAGIC) && skip_old(buf, len, &base, err) < 0)
		return -1;
	if (!has_magic(buf + base, len - base, NEW_MAGIC) || len - base < sizeof header)
		return malformed(err, "header");
	memcpy(&header, buf + base, sizeof header);
	if (header.count > (len - base - sizeof header) / sizeof(struct new_entry))
		return malformed(err, "count");
	out->base = base;
	out->count = header.count;
	return 0;
}

/* Measure the string at `offset` from the new header. */
static int measure(const uint8_t *buf, size_t len, size_t base, uint32_t offset,
                   uint32_t *string_off, uint32_t *string_len, struct nvc_error *err)
{
	size_t room = len - base;
	const uint8_t *string, *end;

	if (offset >= room || __builtin_add_overflow(base, offset, string_off))
		return malformed(err, "string offset");
	room -= offset;
	string = buf + base + offset;
	/* The bound on the length also bounds the work when all entries share one long string. */
	end = memchr(string, '\0', room < PATH_MAX ? room : PATH_MAX);
	if (end == NULL)
		return malformed(err, "string");
	*string_len = (uint32_t)(end - string);
	return 0;
}

int nvc_ldcache_entries(const uint8_t *buf, size_t len, const struct nvc_ldcache *cache,
                        struct nvc_ldcache_entry *out, struct nvc_error *err)
{
	const uint8_t *next = buf + cache->base + sizeof(struct new_header);
	struct new_entry entry;

	for (uint32_t i = 0; i < cache->count; i++, next += sizeof entry) {
		memcpy(&entry, next, sizeof entry);
		out[i].flags = entry.flags;
		if (measure(buf, len, cache->base, entry.soname, &out[i].soname_off,
		            &out[i].soname_len, err) < 0 ||
		    measure(buf, len, cache->base, entry.path, &out[i].path_off, &out[i].path_len,
		            err) < 0)
			return -1;
	}
	return 0;
}
