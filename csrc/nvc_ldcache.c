/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ldcache.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "nvc_ldformat.h"

static int malformed(struct nvc_error *err, const char *step)
{
	return nvc_fail(err, NVC_EMALFORMED, step, NULL, "unsupported file format");
}

static bool has_magic(const uint8_t *buf, size_t len, const char *magic)
{
	size_t magic_len = strlen(magic);

	return len >= magic_len && memcmp(buf, magic, magic_len) == 0;
}

/* Find the end of the old part's entries. */
static int measure_old(const uint8_t *buf, size_t len, struct nvc_old_header *header, size_t *end,
                       struct nvc_error *err)
{
	size_t size;

	if (len < sizeof *header)
		return malformed(err, "old header");
	memcpy(header, buf, sizeof *header);
	if (__builtin_mul_overflow(header->count, sizeof(struct nvc_old_entry), &size) ||
	    __builtin_add_overflow(size, sizeof *header, &size) || size > len)
		return malformed(err, "old header");
	*end = size;
	return 0;
}

/* Find the names of the directories below glibc-hwcaps. The loader does without a part of the
 * cache that makes no sense; so do we. */
static void find_hwcaps(const uint8_t *buf, size_t len, uint32_t offset, struct nvc_ldcache *out)
{
	struct nvc_extension ext;
	struct nvc_section section;

	if (offset == 0 || offset % 4 != 0 || offset > len || len - offset < sizeof ext)
		return;
	memcpy(&ext, buf + offset, sizeof ext);
	if (ext.magic != NVC_EXTENSION_MAGIC ||
	    ext.count > (len - offset - sizeof ext) / sizeof section)
		return;
	for (uint32_t i = 0; i < ext.count; i++) {
		memcpy(&section, buf + offset + sizeof ext + i * sizeof section, sizeof section);
		if (section.tag != NVC_SECTION_HWCAPS || section.offset % 4 != 0 ||
		    section.offset > len || section.size > len - section.offset)
			continue;
		out->hwcaps = section.offset;
		out->hwcaps_count = section.size / 4;
	}
}

static int open_old(const struct nvc_old_header *header, size_t end, struct nvc_ldcache *out)
{
	out->table = sizeof *header;
	out->strings = end;
	out->count = header->count;
	out->is_old = 1;
	return 0;
}

int nvc_ldcache_open(const uint8_t *buf, size_t len, struct nvc_ldcache *out, struct nvc_error *err)
{
	struct nvc_old_header old = {.count = 0};
	struct nvc_new_header header;
	size_t end = 0;

	memset(out, 0, sizeof *out);
	if (has_magic(buf, len, NVC_OLD_MAGIC)) {
		if (measure_old(buf, len, &old, &end, err) < 0)
			return -1;
		out->base = (end + 7) & ~(size_t)7;
	}
	if (out->base > len || !has_magic(buf + out->base, len - out->base, NVC_NEW_MAGIC) ||
	    len - out->base < sizeof header)
		return end != 0 ? open_old(&old, end, out) : malformed(err, "header");
	memcpy(&header, buf + out->base, sizeof header);
	if ((header.endian & 3) != 0 && (header.endian & 3) != NVC_ENDIAN)
		return malformed(err, "byte order");
	out->strings = out->base;
	out->table = out->base + sizeof header;
	if (header.count > (len - out->table) / sizeof(struct nvc_new_entry))
		return malformed(err, "count");
	out->count = header.count;
	find_hwcaps(buf, len, header.extension, out);
	return 0;
}

/* Measure the string at an offset from `base`. */
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

static int name_hwcaps(const uint8_t *buf, size_t len, const struct nvc_ldcache *cache,
                       struct nvc_ldcache_entry *out, struct nvc_error *err)
{
	uint32_t number = (uint32_t)out->hwcap, offset;

	if (!nvc_ldcache_is_hwcaps(out->hwcap) || number >= cache->hwcaps_count)
		return 0;
	memcpy(&offset, buf + cache->hwcaps + (size_t)number * 4, sizeof offset);
	return measure(buf, len, 0, offset, &out->hwcaps_off, &out->hwcaps_len, err);
}

int nvc_ldcache_read(const uint8_t *buf, size_t len, const struct nvc_ldcache *cache,
                     uint32_t index, struct nvc_ldcache_entry *out, struct nvc_error *err)
{
	struct nvc_new_entry entry = {.os_version = 0};
	size_t size = cache->is_old != 0 ? sizeof(struct nvc_old_entry) : sizeof entry;

	/* The old entry is the beginning of the new one. */
	memcpy(&entry, buf + cache->table + index * size, size);
	memset(out, 0, sizeof *out);
	out->flags = entry.flags;
	out->os_version = entry.os_version;
	out->hwcap = entry.hwcap;
	if (measure(buf, len, cache->strings, entry.soname, &out->soname_off, &out->soname_len,
	            err) < 0 ||
	    measure(buf, len, cache->strings, entry.path, &out->path_off, &out->path_len, err) < 0)
		return -1;
	return name_hwcaps(buf, len, cache, out, err);
}

int nvc_ldcache_entries(const uint8_t *buf, size_t len, const struct nvc_ldcache *cache,
                        struct nvc_ldcache_entry *out, struct nvc_error *err)
{
	for (uint32_t i = 0; i < cache->count; i++) {
		if (nvc_ldcache_read(buf, len, cache, i, &out[i], err) < 0)
			return -1;
	}
	return 0;
}
