/* SPDX-License-Identifier: Apache-2.0 */
/* A set of libraries, as the loader's cache lists them: taken from a cache, from directories, or
 * given; put in the loader's order; written as a cache in the format "glibc-ld.so.cache1.1" alone,
 * which every loader since glibc 2.2 reads. Privileges: none. Fork class: child safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nvc_arena.h"
#include "nvc_error.h"

/* Strings are not copied: they live as long as the set. */
struct nvc_library {
	const char *soname; /* what programs ask for */
	const char *path;   /* absolute, in the container */
	const char *hwcaps; /* the directory below glibc-hwcaps that it is in, or NULL */
	uint64_t hwcap;     /* as in the cache; the number of `hwcaps` is filled in when written */
	uint32_t flags, os_version;
	uint32_t rank;  /* of its directory in the search order; the lower one is searched first */
	uint32_t place; /* number of its directory among those that are configured, from 1, or 0 */
};

struct nvc_libset {
	struct nvc_library *all;
	uint32_t count, max;
	struct nvc_arena memory; /* for strings, and whatever else lives as long */
};

#define nvc_libset_init {.all = NULL}

/* Reserve memory, mostly address space: a set that holds more than any cache that we read. -1 with
 * errno. */
int nvc_libset_open(struct nvc_libset *out);
void nvc_libset_close(struct nvc_libset *set);

/* Add a library. -1 with errno ENOMEM. */
int nvc_libset_add(struct nvc_libset *set, const struct nvc_library *library);

/* Add all entries of a cache, whose bytes must outlive the set; `rank` and `place` stay 0.
 * NVC_EMALFORMED for what is no cache, NVC_ELDCACHE and ENOMEM. */
int nvc_libset_read(struct nvc_libset *set, const uint8_t *buf, size_t len, struct nvc_error *err);

/* Whether a cache is one that was written here. */
bool nvc_libset_is_own(const uint8_t *buf, size_t len);

/* Put the libraries in the order that the loader's search by halving needs; those that are equal
 * in it by rank, and then as they were. */
int nvc_libset_sort(struct nvc_libset *set);

/* Whether a look-up by the loader could mean either: same name, same kind, and not in different
 * directories below glibc-hwcaps. */
bool nvc_libset_rivals(const struct nvc_library *a, const struct nvc_library *b);

/* Write the cache of a sorted set to memory of the set: `*out`, of `*len` bytes. -1 with errno:
 * ENOMEM, or EFBIG where offsets do not fit. */
int nvc_libset_write(struct nvc_libset *set, const uint8_t **out, size_t *len);

/* Compare two names as the loader does: runs of digits by their number. */
int nvc_libset_compare_names(const char *a, const char *b);
