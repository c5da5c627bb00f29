/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the loader's cache, as glibc's dl-cache.h has them. All fields are naturally
 * aligned, so the structs have no padding; they are copied, because a buffer need not be aligned.
 * For nvc_ldcache.c, which reads them, and nvc_libset.c, which writes them. */
#pragma once

#include <stdint.h>

#define NVC_OLD_MAGIC       "ld.so-1.7.0"
#define NVC_NEW_MAGIC       "glibc-ld.so.cache1.1"
#define NVC_EXTENSION_MAGIC 0xeaa42174u

/* Byte order: unset before glibc 2.33. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NVC_ENDIAN 2
#else
#define NVC_ENDIAN 3
#endif

struct nvc_old_header {
	char magic[12]; /* without NUL: one byte of padding */
	uint32_t count;
};

/* Its strings are relative to the end of the entries. */
struct nvc_old_entry {
	uint32_t flags, soname, path;
};

/* Its strings are relative to this header. */
struct nvc_new_header {
	char magic[20];
	uint32_t count;
	uint32_t strings_size;
	uint8_t endian;
	uint8_t unused1[3];
	uint32_t extension; /* since glibc 2.33; relative to the start of the file, as all below */
	uint32_t unused2[3];
};

struct nvc_new_entry {
	uint32_t flags, soname, path, os_version;
	uint64_t hwcap;
};

struct nvc_extension {
	uint32_t magic;
	uint32_t count; /* of the sections that follow */
};

enum nvc_section_tag {
	NVC_SECTION_GENERATOR = 0, /* text: who wrote the file */
	NVC_SECTION_HWCAPS = 1,    /* array of the offsets of names, in ascending order */
};

struct nvc_section {
	uint32_t tag, flags, offset, size;
};

_Static_assert(sizeof(struct nvc_old_header) == 16 && sizeof(struct nvc_old_entry) == 12, "format");
_Static_assert(sizeof(struct nvc_new_header) == 48 && sizeof(struct nvc_new_entry) == 24, "format");
_Static_assert(sizeof(struct nvc_extension) == 8 && sizeof(struct nvc_section) == 16, "format");
