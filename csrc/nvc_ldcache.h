/* SPDX-License-Identifier: Apache-2.0 */
/* Reader of the loader's cache (/etc/ld.so.cache): the format "glibc-ld.so.cache1.1" with or
 * without the older "ld.so-1.7.0" part before it, or that part alone. The bytes may be hostile:
 * every count, offset and string is checked against the buffer. Nothing is copied or kept; the
 * numbers are in this machine's byte order. The formats are those of glibc's elf/cache.c.
 * Privileges: none. Fork class: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nvc_error.h"

/* Flags of an entry. It is a library of glibc when NVC_LDCACHE_LIBC6 is set; the bits under
 * NVC_LDCACHE_ARCH then name its architecture. */
#define NVC_LDCACHE_LIBC6   0x0001
#define NVC_LDCACHE_ARCH    0xff00
#define NVC_LDCACHE_I386    0x0000
#define NVC_LDCACHE_X86_64  0x0300
#define NVC_LDCACHE_PPC64LE 0x0500
#define NVC_LDCACHE_ARMHF   0x0900
#define NVC_LDCACHE_AARCH64 0x0a00

/* The hwcap of an entry from a directory below glibc-hwcaps: these bits, the library's ISA level
 * (10 bits) and, in the lower half, the number of the directory's name. */
#define NVC_LDCACHE_HWCAPS    0x4000000000000000
#define NVC_LDCACHE_ISA_LEVEL 0x000003ff00000000

struct nvc_ldcache {
	size_t base;           /* where its header starts */
	size_t table;          /* where its entries start */
	size_t strings;        /* what its string offsets are relative to */
	uint32_t count;        /* entries; that many fit the buffer */
	uint32_t is_old;       /* it has the older part only */
	uint32_t hwcaps_count; /* names of directories below glibc-hwcaps */
	size_t hwcaps;         /* where the array of their offsets is */
};

/* Offsets are from the start of the buffer, lengths without the NUL. */
struct nvc_ldcache_entry {
	uint32_t flags;
	uint32_t soname_off;
	uint32_t soname_len;
	uint32_t path_off;
	uint32_t path_len;
	uint32_t os_version; /* the oldest kernel, as glibc before 2.37 noted it */
	uint32_t hwcaps_off; /* name of the directory below glibc-hwcaps; length 0: none */
	uint32_t hwcaps_len;
	uint64_t hwcap;
};

/* Whether the hwcap of an entry says that it is from a directory below glibc-hwcaps. */
static inline bool nvc_ldcache_is_hwcaps(uint64_t hwcap)
{
	return (hwcap >> 32 << 32 & ~(uint64_t)NVC_LDCACHE_ISA_LEVEL) == NVC_LDCACHE_HWCAPS;
}

/* Check the headers. NVC_EMALFORMED for anything that is not such a cache. */
int nvc_ldcache_open(const uint8_t *buf, size_t len, struct nvc_ldcache *out,
                     struct nvc_error *err);

/* Read the entry `index`, less than `cache->count`. NVC_EMALFORMED if a string lies outside the
 * buffer, has no end, or is longer than a path may be. */
int nvc_ldcache_read(const uint8_t *buf, size_t len, const struct nvc_ldcache *cache,
                     uint32_t index, struct nvc_ldcache_entry *out, struct nvc_error *err);

/* Read all entries, in file order, to `out`, which has room for `cache->count`. */
int nvc_ldcache_entries(const uint8_t *buf, size_t len, const struct nvc_ldcache *cache,
                        struct nvc_ldcache_entry *out, struct nvc_error *err);
