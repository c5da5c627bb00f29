/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC    "nvcjrnl"
#define SCHEMA   2u
#define HEAD_LEN ((size_t)8192)
#define LOG_MAX  ((size_t)2 << 20)
#define RESERVE  ((size_t)32 << 10)
#define WHOLE    (HEAD_LEN + LOG_MAX + NVC_JOURNAL_CACHE_MAX)

_Static_assert(sizeof(struct nvc_journal_file) <= HEAD_LEN, "the header has its own pages");

static int map(int fd, struct nvc_journal *out, struct nvc_error *err)
{
	void *base = mmap(NULL, WHOLE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return nvc_fail_errno(err, NVC_EINTERNAL, "map", "journal");
	out->base = base;
	out->fd = fd;
	out->reserved = 0;
	out->file = base;
	out->log = (uint8_t *)base + HEAD_LEN;
	out->cache = (uint8_t *)base + HEAD_LEN + LOG_MAX;
	return 0;
}

/* A page of the map that no memory is left for kills whoever touches it. */
static int reserve(int fd, size_t offset, size_t len, struct nvc_error *err)
{
	if (fallocate(fd, 0, (off_t)offset, (off_t)len) == 0 || errno == EOPNOTSUPP)
		return 0;
	return nvc_fail_errno(err, NVC_EINTERNAL, "size", "journal");
}

int nvc_journal_reserve_cache(const struct nvc_journal *journal, size_t len, struct nvc_error *err)
{
	return len == 0 ? 0 : reserve(journal->fd, HEAD_LEN + LOG_MAX, len, err);
}

int nvc_journal_create(int fd, struct nvc_journal *out, struct nvc_error *err)
{
	/* Sparse: only the pages that are written take memory. */
	if (ftruncate(fd, (off_t)WHOLE) < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "size", "journal");
	if (reserve(fd, 0, HEAD_LEN, err) < 0 || map(fd, out, err) < 0)
		return -1;
	memcpy(out->file->magic, MAGIC, sizeof out->file->magic);
	out->file->schema = SCHEMA;
	return 0;
}

int nvc_journal_open(int fd, struct nvc_journal *out, struct nvc_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "stat", "journal");
	if (!S_ISREG(st.st_mode) || (size_t)st.st_size != WHOLE)
		return nvc_fail(err, NVC_EMALFORMED, "parse", "journal", "not a journal");
	if (map(fd, out, err) < 0)
		return -1;
	if (memcmp(out->file->magic, MAGIC, sizeof out->file->magic) != 0 ||
	    out->file->schema != SCHEMA || out->file->log_len > LOG_MAX ||
	    out->file->cache_len > NVC_JOURNAL_CACHE_MAX ||
	    memchr(out->file->rootfs, '\0', sizeof out->file->rootfs) == NULL) {
		nvc_journal_close(out);
		return nvc_fail(err, NVC_EMALFORMED, "parse", "journal", "not a journal");
	}
	return 0;
}

void nvc_journal_close(struct nvc_journal *journal)
{
	(void)munmap(journal->base, WHOLE);
	journal->base = NULL;
}

static char *put_text(char *at, const char *text)
{
	size_t len = strlen(text) + 1;

	memcpy(at, text, len);
	return at + len;
}

struct nvc_record *nvc_journal_begin(struct nvc_journal *journal, const struct nvc_entry *entry,
                                     struct nvc_error *err)
{
	struct nvc_journal_file *file = journal->file;
	const char *arg = entry->arg == NULL ? "" : entry->arg;
	const char *old = entry->old == NULL ? "" : entry->old;
	size_t head = offsetof(struct nvc_record, text);
	uint64_t size = head + strlen(entry->path) + strlen(arg) + strlen(old) + 3;

	size = ((size + 7) & ~(uint64_t)7) + sizeof size;
	if (size > LOG_MAX - file->log_len) {
		/* A link of the image can lead through a thousand directories that are to be made.
		 */
		(void)nvc_fail(err, NVC_EMOUNT, "record", entry->path, "the journal is full");
		return NULL;
	}
	if (file->log_len + size > journal->reserved) {
		size_t more = file->log_len + size + RESERVE;
		more = more > LOG_MAX ? LOG_MAX : more;
		if (reserve(journal->fd, HEAD_LEN, more, err) < 0)
			return NULL;
		journal->reserved = more;
	}
	uint8_t *at = journal->log + file->log_len;
	struct nvc_record *record = (struct nvc_record *)(void *)at;
	memset(at, 0, size);
	record->step = (uint32_t)entry->step;
	record->state = NVC_RECORD_BEGUN;
	record->op = entry->op;
	record->arg = (uint32_t)strlen(entry->path) + 1;
	(void)put_text(put_text(put_text((char *)at + head, entry->path), arg), old);
	memcpy(at + size - sizeof size, &size, sizeof size);
	__atomic_store_n(&file->log_len, file->log_len + size, __ATOMIC_RELEASE);
	return record;
}

void nvc_journal_mark(struct nvc_record *record, enum nvc_record_state state)
{
	__atomic_store_n(&record->state, (uint32_t)state, __ATOMIC_RELEASE);
}

/* A journal from disk is root's own, but a torn one must not take us outside the map. */
static bool sound(const uint8_t *at, uint64_t size)
{
	const struct nvc_record *record = (const struct nvc_record *)(const void *)at;
	size_t head = offsetof(struct nvc_record, text), len;

	if (size % 8 != 0 || size < sizeof *record + sizeof size)
		return false;
	const char *text = (const char *)at + head, *end = (const char *)at + size - sizeof size;
	len = strnlen(text, (size_t)(end - text)) + 1;
	if (record->arg != len || (size_t)(end - text) <= len)
		return false;
	text += len;
	len = strnlen(text, (size_t)(end - text)) + 1;
	return (size_t)(end - text) > len && memchr(text + len, '\0', (size_t)(end - text) - len);
}

struct nvc_record *nvc_journal_before(const struct nvc_journal *journal,
                                      const struct nvc_record *record)
{
	uint64_t size, end = record == NULL ? journal->file->log_len
	                                    : (uint64_t)((const uint8_t *)record - journal->log);

	if (end < sizeof size || end % 8 != 0)
		return NULL;
	memcpy(&size, journal->log + end - sizeof size, sizeof size);
	if (size > end || !sound(journal->log + end - size, size))
		return NULL;
	return (struct nvc_record *)(void *)(journal->log + end - size);
}
