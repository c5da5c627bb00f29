/* SPDX-License-Identifier: Apache-2.0 */
/* The few facts of an ELF file that choosing a library needs: class, machine, DT_SONAME,
 * DT_NEEDED, ABI note. Read as the loader reads them, from the program headers, so that a file
 * without section headers answers too. Both classes, both byte orders.
 *
 * The file may be hostile. It is never mapped (a file cut short under a mapping kills the reader):
 * the parser asks for small pieces, which come from a buffer, or by pread through one window. A
 * library of any size costs a handful of system calls; the limits below bound the work.
 * Privileges: read permission. Fork class: any. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "nvc_error.h"

#define NVC_ELF_NAME_SIZE    256   /* of a SONAME or NEEDED, with its NUL */
#define NVC_ELF_NEEDED_SIZE  8192  /* all NEEDED together, with their NULs */
#define NVC_ELF_NEEDED_MAX   512   /* entries */
#define NVC_ELF_SEGMENTS_MAX 128   /* program headers */
#define NVC_ELF_DYNAMIC_MAX  4096  /* entries of the dynamic section */
#define NVC_ELF_NOTES_MAX    65536 /* bytes looked at in a segment of notes */

struct nvc_elf_facts {
	uint32_t bits;    /* 64 or 32 */
	uint32_t machine; /* e_machine: 62 is x86-64 */
	uint32_t type;    /* e_type: 3 is a shared object */
	uint32_t dynamic; /* sections of that kind: a library has one */
	uint32_t has_abi; /* 1 if there is an ABI note for Linux */
	uint32_t abi[3];  /* the oldest kernel it names */
	uint32_t needed_count;
	uint32_t needed_len;              /* bytes of `needed` in use */
	char soname[NVC_ELF_NAME_SIZE];   /* "" if there is none */
	char needed[NVC_ELF_NEEDED_SIZE]; /* in file order, each ending in NUL */
};

/* Read the facts of a file in memory. NVC_EMALFORMED for what is not ELF or contradicts itself. */
int nvc_elf_parse(const uint8_t *buf, size_t len, struct nvc_elf_facts *out, struct nvc_error *err);

/* The same for a regular file of the host; never blocks on a FIFO. Fails also with NVC_EPATH and
 * errno. Errors carry the path. */
int nvc_elf_read(const char *path, struct nvc_elf_facts *out, struct nvc_error *err);

/* The same for an open regular file of `size` bytes; `path` is for messages. */
int nvc_elf_read_fd(int fd, const char *path, uint64_t size, struct nvc_elf_facts *out,
                    struct nvc_error *err);
