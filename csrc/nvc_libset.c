/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_libset.h"

#include <errno.h>
#include <string.h>

#include "nvc_ldcache.h"
#include "nvc_ldformat.h"

#define GENERATOR "libnvc"
/* A cache of 8 MiB, the most we read, has fewer entries than this. */
#define MAX_LIBRARIES (1u << 19)
#define MEMORY        ((size_t)192 << 20)

/* What is written has no strings in common, as what is read may have: so that neither the sorting
 * nor the result knows no bounds, strings that are many times the file, or more names of
 * directories than all processors have, are taken for damage. */
#define STRINGS_MAX 8u /* bytes of them, for each byte of the file */
#define HWCAPS_MAX  64u

int nvc_libset_open(struct nvc_libset *out)
{
	*out = (struct nvc_libset)nvc_libset_init;
	if (nvc_arena_open(&out->memory, MEMORY) < 0)
		return -1;
	out->max = MAX_LIBRARIES;
	out->all = nvc_arena_take(&out->memory, out->max * sizeof *out->all);
	return 0;
}

void nvc_libset_close(struct nvc_libset *set)
{
	nvc_arena_close(&set->memory);
	set->all = NULL;
	set->count = 0;
}

int nvc_libset_add(struct nvc_libset *set, const struct nvc_library *library)
{
	if (set->count == set->max) {
		errno = ENOMEM;
		return -1;
	}
	set->all[set->count++] = *library;
	return 0;
}

int nvc_libset_read(struct nvc_libset *set, const uint8_t *buf, size_t len, struct nvc_error *err)
{
	struct nvc_ldcache cache;
	struct nvc_ldcache_entry entry;
	size_t strings = 0;

	if (nvc_ldcache_open(buf, len, &cache, err) < 0)
		return -1;
	if (cache.hwcaps_count > HWCAPS_MAX)
		return nvc_fail(err, NVC_EMALFORMED, "names", NULL, "unsupported file format");
	for (uint32_t i = 0; i < cache.count; i++) {
		if (nvc_ldcache_read(buf, len, &cache, i, &entry, err) < 0)
			return -1;
		strings += (size_t)entry.soname_len + entry.path_len + entry.hwcaps_len;
		if (strings > STRINGS_MAX * len)
			return nvc_fail(err, NVC_EMALFORMED, "strings", NULL,
			                "unsupported file format");
		/* The loader passes over it: its number means no directory. */
		if (nvc_ldcache_is_hwcaps(entry.hwcap) && entry.hwcaps_len == 0)
			continue;
		struct nvc_library library = {
		    .soname = (const char *)buf + entry.soname_off,
		    .path = (const char *)buf + entry.path_off,
		    .hwcaps = entry.hwcaps_len == 0 ? NULL : (const char *)buf + entry.hwcaps_off,
		    .hwcap = entry.hwcap,
		    .flags = entry.flags,
		    .os_version = entry.os_version};
		if (nvc_libset_add(set, &library) < 0)
			return nvc_fail_errno(err, NVC_ELDCACHE, "read", "loader cache");
	}
	return 0;
}

bool nvc_libset_is_own(const uint8_t *buf, size_t len)
{
	size_t mark = sizeof GENERATOR - 1; /* what a file ends with */

	return len > mark && memcmp(buf + len - mark, GENERATOR, mark) == 0;
}

/* --- order --------------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Read a run of digits. So long a number that it overflows is no version; the loader lets it
 * overflow, too. */
static uint32_t read_number(const char **text)
{
	uint32_t value = 0;

	for (; is_digit(**text); (*text)++)
		value = value * 10 + (uint32_t)(**text - '0');
	return value;
}

int nvc_libset_compare_names(const char *a, const char *b)
{
	while (*a != '\0') {
		if (is_digit(*a) && is_digit(*b)) {
			int32_t more = (int32_t)(read_number(&a) - read_number(&b));
			if (more != 0)
				return more;
		} else if (is_digit(*a)) {
			return 1;
		} else if (is_digit(*b)) {
			return -1;
		} else if (*a != *b) {
			return *a - *b;
		} else {
			a++;
			b++;
		}
	}
	return *a - *b; /* signed or not, as on this machine the loader's */
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a == b ? 0 : a < b ? -1 : 1;
}

/* The order of the file, but for rank: descending names and kinds; of one name those below
 * glibc-hwcaps first, by directory, then those for most features of a processor. */
static int compare_keys(const struct nvc_library *a, const struct nvc_library *b)
{
	int result = nvc_libset_compare_names(b->soname, a->soname);

	if (result == 0 && a->flags != b->flags)
		result = (int32_t)a->flags > (int32_t)b->flags ? -1 : 1;
	if (result != 0)
		return result;
	if (a->hwcaps != NULL || b->hwcaps != NULL) {
		if (a->hwcaps == NULL || b->hwcaps == NULL)
			return a->hwcaps != NULL ? -1 : 1;
		return strcmp(a->hwcaps, b->hwcaps);
	}
	result = __builtin_popcountll(b->hwcap) - __builtin_popcountll(a->hwcap);
	if (result == 0)
		result = compare_numbers(b->hwcap, a->hwcap);
	return result != 0 ? result : compare_numbers(b->os_version, a->os_version);
}

static int compare(const struct nvc_library *a, const struct nvc_library *b)
{
	int result = compare_keys(a, b);

	return result != 0 ? result : compare_numbers(a->rank, b->rank);
}

/* Merge two neighbouring runs, [0, middle) and [middle, count), by a copy of the first. */
static void merge(struct nvc_library *at, uint32_t middle, uint32_t count,
                  struct nvc_library *scratch)
{
	uint32_t left = 0, right = middle, to = 0;

	if (compare(&at[middle - 1], &at[middle]) <= 0)
		return; /* as for nearly all of a cache that was in order */
	memcpy(scratch, at, middle * sizeof *at);
	while (left < middle)
		at[to++] = right < count && compare(&scratch[left], &at[right]) > 0
		               ? at[right++]
		               : scratch[left++];
}

int nvc_libset_sort(struct nvc_libset *set)
{
	uint32_t count = set->count;
	struct nvc_arena *memory = &set->memory;
	size_t before = memory->used;
	struct nvc_library *scratch = nvc_arena_take(memory, count * sizeof *scratch);

	if (scratch == NULL)
		return -1;
	for (uint32_t width = 1; width < count; width *= 2) {
		for (uint32_t at = 0; width < count - at;) {
			uint32_t run = count - at < 2 * width ? count - at : 2 * width;
			merge(set->all + at, width, run, scratch);
			at += run;
		}
	}
	memory->used = before;
	return 0;
}

bool nvc_libset_rivals(const struct nvc_library *a, const struct nvc_library *b)
{
	uint32_t kind = NVC_LDCACHE_ARCH | NVC_LDCACHE_LIBC6;
	bool same_place = a->hwcaps == NULL
	                      ? b->hwcaps == NULL
	                      : b->hwcaps != NULL && strcmp(a->hwcaps, b->hwcaps) == 0;

	return same_place && (a->flags & kind) == (b->flags & kind) &&
	       strcmp(a->soname, b->soname) == 0;
}

/* --- writing ------------------------------------------------------------------------------------
 */

/* The names of the directories below glibc-hwcaps, in order, each once. */
struct names {
	const char **all;
	uint32_t count;
};

static uint32_t find_name(const struct names *names, const char *name)
{
	uint32_t at = 0;

	while (at < names->count && strcmp(names->all[at], name) < 0)
		at++;
	return at;
}

static int list_names(struct nvc_libset *set, struct names *out)
{
	*out = (struct names){.all = NULL};
	for (uint32_t i = 0; i < set->count; i++) {
		const char *name = set->all[i].hwcaps;
		if (name == NULL)
			continue;
		uint32_t at = find_name(out, name);
		if (at < out->count && strcmp(out->all[at], name) == 0)
			continue;
		/* One more than before, each time in new memory: there are two or three. */
		const char **all =
		    nvc_arena_take(&set->memory, (out->count + 1) * sizeof *out->all);
		if (all == NULL)
			return -1;
		memcpy(all, out->all == NULL ? all : out->all, at * sizeof *all);
		all[at] = name;
		if (out->count > at)
			memcpy(all + at + 1, out->all + at, (out->count - at) * sizeof *all);
		*out = (struct names){all, out->count + 1};
	}
	return 0;
}

/* A file that grows in memory. */
struct writer {
	uint8_t *base;
	size_t used, size;
};

static uint32_t put(struct writer *w, const void *data, size_t len)
{
	size_t at = w->used;

	memcpy(w->base + at, data, len);
	w->used += len;
	return (uint32_t)at;
}

static uint32_t put_string(struct writer *w, const char *text)
{
	return put(w, text, strlen(text) + 1);
}

/* Often the path ends in the name: then one string does for both. */
static void put_strings(struct writer *w, const struct nvc_library *library,
                        struct nvc_new_entry *out)
{
	size_t soname_len = strlen(library->soname), path_len = strlen(library->path);

	out->path = put(w, library->path, path_len + 1);
	if (path_len >= soname_len &&
	    memcmp(library->path + path_len - soname_len, library->soname, soname_len) == 0)
		out->soname = out->path + (uint32_t)(path_len - soname_len);
	else
		out->soname = put(w, library->soname, soname_len + 1);
}

/* What is written for one library and, at most, for the end. */
static size_t measure(const struct nvc_libset *set, const struct names *names)
{
	size_t size = sizeof(struct nvc_new_header) + sizeof GENERATOR + 4 +
	              sizeof(struct nvc_extension) + 2 * sizeof(struct nvc_section);

	for (uint32_t i = 0; i < set->count; i++)
		size += sizeof(struct nvc_new_entry) + strlen(set->all[i].soname) +
		        strlen(set->all[i].path) + 2;
	for (uint32_t i = 0; i < names->count; i++)
		size += strlen(names->all[i]) + 1 + sizeof(uint32_t);
	return size;
}

static void put_extension(struct writer *w, const uint32_t *name_offsets, uint32_t name_count)
{
	struct nvc_extension ext = {NVC_EXTENSION_MAGIC, name_count == 0 ? 1 : 2};
	uint32_t names_size = name_count * (uint32_t)sizeof *name_offsets;
	uint32_t data = (uint32_t)(w->used + sizeof ext + ext.count * sizeof(struct nvc_section));
	struct nvc_section generator = {NVC_SECTION_GENERATOR, 0, data + names_size,
	                                sizeof GENERATOR - 1};
	struct nvc_section hwcaps = {NVC_SECTION_HWCAPS, 0, data, names_size};

	(void)put(w, &ext, sizeof ext);
	(void)put(w, &generator, sizeof generator);
	if (name_count != 0) {
		(void)put(w, &hwcaps, sizeof hwcaps);
		(void)put(w, name_offsets, names_size);
	}
	(void)put(w, GENERATOR, sizeof GENERATOR - 1);
}

static void put_cache(struct writer *w, const struct nvc_libset *set, const struct names *names,
                      uint32_t *name_offsets)
{
	struct nvc_new_header header = {.count = set->count, .endian = NVC_ENDIAN};
	size_t table = sizeof header, strings = table + set->count * sizeof(struct nvc_new_entry);

	w->used = strings;
	for (uint32_t i = 0; i < names->count; i++)
		name_offsets[i] = put_string(w, names->all[i]);
	for (uint32_t i = 0; i < set->count; i++) {
		const struct nvc_library *library = &set->all[i];
		struct nvc_new_entry entry = {.flags = library->flags,
		                              .os_version = library->os_version,
		                              .hwcap = library->hwcap};
		if (library->hwcaps != NULL)
			entry.hwcap = NVC_LDCACHE_HWCAPS |
			              (library->hwcap & NVC_LDCACHE_ISA_LEVEL) |
			              find_name(names, library->hwcaps);
		put_strings(w, library, &entry);
		memcpy(w->base + table + i * sizeof entry, &entry, sizeof entry);
	}
	header.strings_size = (uint32_t)(w->used - strings);
	while (w->used % 4 != 0)
		(void)put(w, "", 1);
	header.extension = (uint32_t)w->used;
	put_extension(w, name_offsets, names->count);
	memcpy(header.magic, NVC_NEW_MAGIC, sizeof header.magic);
	memcpy(w->base, &header, sizeof header);
}

int nvc_libset_write(struct nvc_libset *set, const uint8_t **out, size_t *len)
{
	struct names names;
	struct writer w = {.base = NULL};

	if (list_names(set, &names) < 0)
		return -1;
	uint32_t *name_offsets = nvc_arena_take(&set->memory, names.count * sizeof *name_offsets);
	w.size = measure(set, &names);
	if (w.size > UINT32_MAX) {
		errno = EFBIG;
		return -1;
	}
	w.base = nvc_arena_take(&set->memory, w.size);
	if (name_offsets == NULL || w.base == NULL)
		return -1;
	put_cache(&w, set, &names, name_offsets);
	*out = w.base;
	*len = w.used;
	return 0;
}
