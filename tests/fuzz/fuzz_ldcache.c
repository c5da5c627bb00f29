/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error ldcache */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "nvc_ldcache.h"

/* Promised: every string lies inside and ends in NUL. */
static void check(const uint8_t *data, size_t size, uint32_t offset, uint32_t len)
{
	if (offset >= size || len >= size - offset || data[(size_t)offset + len] != 0 ||
	    memchr(data + offset, '\0', len) != NULL)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvc_ldcache cache;
	struct nvc_ldcache_entry one;
	struct nvc_error err;

	if (nvc_ldcache_open(data, size, &cache, &err) < 0)
		return 0;
	if (cache.count > size || cache.hwcaps_count > size / 4)
		abort();
	struct nvc_ldcache_entry *entries = calloc(cache.count + 1u, sizeof *entries);
	if (entries == NULL)
		abort();
	bool all = nvc_ldcache_entries(data, size, &cache, entries, &err) == 0;
	for (uint32_t i = 0; i < cache.count; i++) {
		bool read = nvc_ldcache_read(data, size, &cache, i, &one, &err) == 0;

		if (all && (!read || memcmp(&one, &entries[i], sizeof one) != 0))
			abort();
		if (!read)
			continue;
		check(data, size, one.soname_off, one.soname_len);
		check(data, size, one.path_off, one.path_len);
		if (one.hwcaps_len > 0)
			check(data, size, one.hwcaps_off, one.hwcaps_len);
	}
	free(entries);
	return 0;
}
