/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error ldcache */
#include <stdlib.h>

#include "fuzz.h"
#include "nvc_ldcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvc_ldcache cache;
	struct nvc_error err;

	if (nvc_ldcache_open(data, size, &cache, &err) < 0)
		return 0;
	if (cache.count > size)
		abort();
	struct nvc_ldcache_entry *entries = calloc(cache.count + 1u, sizeof *entries);
	if (entries != NULL && nvc_ldcache_entries(data, size, &cache, entries, &err) == 0) {
		for (uint32_t i = 0; i < cache.count; i++) {
			const struct nvc_ldcache_entry *e = &entries[i];

			/* Promised: both strings lie inside and end in NUL. */
			if (data[(size_t)e->soname_off + e->soname_len] != 0 ||
			    data[(size_t)e->path_off + e->path_len] != 0)
				abort();
		}
	}
	free(entries);
	return 0;
}
