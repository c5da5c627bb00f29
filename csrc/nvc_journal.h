/* SPDX-License-Identifier: Apache-2.0 */
/* What was done to a container, so that it can be undone: by the worker that fails, by its parent
 * if the worker dies, or later by another process. The journal is one file (or memory file) that
 * parent and worker map shared; a record is published before its step is taken and completed
 * after, so whatever kills whom, the records cover all that may have happened.
 *
 * Privileges: none. Fork class: create and open are parent only, the rest is child safe. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nvc_error.h"
#include "nvc_mount.h"

enum nvc_step {
	NVC_STEP_MKDIR = 1, /* made a directory */
	NVC_STEP_CREATE,    /* made an empty file as a mount point */
	NVC_STEP_SYMLINK,   /* made a link; arg: its text */
	NVC_STEP_RELINK,    /* replaced a link; arg: the new text, then the old */
	NVC_STEP_MKNOD,     /* made a device node */
	NVC_STEP_LEAVE,     /* took the mount that path is in out of its peer group */
	NVC_STEP_MOUNT,     /* mounted on path */
	NVC_STEP_DEVLIST,   /* allowed a device in a version 1 cgroup */
	NVC_STEP_DEVPROG,   /* allowed a device in a version 2 cgroup */
	NVC_STEP_CACHE,     /* rewrote the loader cache; the old one is in the journal */
};

enum nvc_record_state {
	NVC_RECORD_BEGUN = 1, /* may or may not have happened */
	NVC_RECORD_DONE,
	NVC_RECORD_UNDONE,
};

struct nvc_record {
	uint32_t step;  /* enum nvc_step */
	uint32_t state; /* enum nvc_record_state */
	int32_t op;     /* index of the plan's operation */
	uint32_t major, minor, access;
	uint32_t tag;             /* of the rule in a device program */
	struct nvc_mount_id made; /* identity of what was made or mounted; 0 until known */
	struct nvc_mount_id was;  /* of what a mount covers, or of the loader cache put back; the
	                           * cache's are its size and time (nvc_cache.c) */
	uint32_t arg;             /* offset of the second string in `text` */
	char text[4];             /* path from the root, then arg, then old, each ended by NUL */
	/* then, at the next multiple of 8: the record's whole size, to walk backwards */
};

struct nvc_journal_file {
	char magic[8];
	uint32_t schema;
	int32_t pid;         /* the container's process */
	uint64_t start_time; /* of that process, clock ticks since boot */
	uint64_t root_dev, root_ino;
	uint32_t uid, gid;      /* owner of the container */
	uint64_t log_len;       /* bytes of complete records */
	uint32_t had_cache;     /* whether there was a loader cache */
	uint32_t had_temporary; /* and a file of the name that ldconfig writes under */
	uint32_t cache_mode, cache_uid, cache_gid;
	uint64_t cache_len; /* bytes of the saved cache */
	int64_t cache_mtime_sec, cache_mtime_nsec;
	char rootfs[PATH_MAX]; /* "" for the process's own root */
};

struct nvc_journal {
	struct nvc_journal_file *file;
	uint8_t *log;
	uint8_t *cache; /* room for NVC_JOURNAL_CACHE_MAX bytes */
	void *base;
	int fd;          /* the caller's */
	size_t reserved; /* bytes of the log that surely have memory */
};

#define NVC_JOURNAL_CACHE_MAX (8u << 20)

/* Size an empty file for a journal and map it. `fd` stays the caller's. */
int nvc_journal_create(int fd, struct nvc_journal *out, struct nvc_error *err);

/* Map an existing journal. NVC_EMALFORMED if it is not one. */
int nvc_journal_open(int fd, struct nvc_journal *out, struct nvc_error *err);

void nvc_journal_close(struct nvc_journal *journal);

/* Make sure that there is memory for the cache: to run out of it while writing is death. */
int nvc_journal_reserve_cache(const struct nvc_journal *journal, size_t len, struct nvc_error *err);

struct nvc_entry {
	enum nvc_step step;
	int op;
	const char *path; /* from the root */
	const char *arg;  /* or NULL */
	const char *old;  /* or NULL */
};

/* Publish a record before its step. NULL (err set) if the journal is full. */
struct nvc_record *nvc_journal_begin(struct nvc_journal *journal, const struct nvc_entry *entry,
                                     struct nvc_error *err);

/* Change a record's state after everything else in it is written. */
void nvc_journal_mark(struct nvc_record *record, enum nvc_record_state state);

/* Walk from the newest record (`record` NULL) to the oldest; NULL at the end or at a record that
 * does not fit. */
struct nvc_record *nvc_journal_before(const struct nvc_journal *journal,
                                      const struct nvc_record *record);
