/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error arena ldcache libset */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "nvc_ldcache.h"
#include "nvc_libset.h"

static bool is_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The number of a directory below glibc-hwcaps is the file's own. */
static bool is_same(const struct nvc_library *a, const struct nvc_library *b)
{
	uint64_t kept = a->hwcaps == NULL ? ~(uint64_t)0 : NVC_LDCACHE_ISA_LEVEL;

	return is_same_text(a->soname, b->soname) && is_same_text(a->path, b->path) &&
	       is_same_text(a->hwcaps, b->hwcaps) && a->flags == b->flags &&
	       a->os_version == b->os_version && (a->hwcap & kept) == (b->hwcap & kept);
}

/* Numbers that overflow have no order, for the loader neither. */
static bool has_long_number(const char *text)
{
	for (; *text != '\0'; text++) {
		if (strspn(text, "0123456789") > 9)
			return true;
	}
	return false;
}

/* Look a name up by halving, as the loader does. */
static bool finds(const struct nvc_libset *set, const struct nvc_library *wanted)
{
	uint32_t left = 0, right = set->count;

	while (left < right) {
		uint32_t middle = left + (right - left) / 2;
		int order = nvc_libset_compare_names(wanted->soname, set->all[middle].soname);
		if (order == 0)
			return true;
		if (order < 0)
			left = middle + 1;
		else
			right = middle;
	}
	return false;
}

static void check(struct nvc_libset *first, struct nvc_libset *again)
{
	const uint8_t *data;
	struct nvc_error err;
	bool ordered = true;
	size_t len;

	/* Promised: no cache of our size is too large to be sorted and written. */
	if (nvc_libset_sort(first) < 0 || nvc_libset_write(first, &data, &len) < 0 ||
	    nvc_libset_read(again, data, len, &err) < 0 || again->count != first->count)
		abort();
	for (uint32_t i = 0; i < first->count; i++) {
		if (!is_same(&first->all[i], &again->all[i]))
			abort();
		ordered = ordered && !has_long_number(first->all[i].soname);
	}
	for (uint32_t i = 0; ordered && i < first->count; i++) {
		if (!finds(first, &first->all[i]) ||
		    (i > 0 &&
		     nvc_libset_compare_names(first->all[i - 1].soname, first->all[i].soname) < 0))
			abort();
	}
}

/* Any cache that can be read is written again with the same entries, in the loader's order. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvc_libset first, again;
	struct nvc_error err;

	if (nvc_libset_open(&first) < 0 || nvc_libset_open(&again) < 0)
		abort();
	if (nvc_libset_read(&first, data, size, &err) == 0)
		check(&first, &again);
	nvc_libset_close(&first);
	nvc_libset_close(&again);
	return 0;
}
