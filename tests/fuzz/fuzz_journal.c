/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error journal */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "nvc_journal.h"

/* The log of a journal is the input, as a kill or a full disk may have left it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvc_journal journal;
	struct nvc_error err;
	struct nvc_record *record = NULL;
	int fd = memfd_create("journal", MFD_CLOEXEC);

	if (fd < 0 || nvc_journal_create(fd, &journal, &err) < 0)
		abort();
	size = size > 65536 ? 65536 : size;
	memcpy(journal.log, data, size);
	journal.file->log_len = size;
	nvc_journal_close(&journal);
	if (nvc_journal_open(fd, &journal, &err) < 0)
		abort();
	while ((record = nvc_journal_before(&journal, record)) != NULL) {
		const char *text = (const char *)record + offsetof(struct nvc_record, text);

		/* Promised: three texts that end inside the log. */
		const char *arg = text + record->arg, *old = arg + strlen(arg) + 1;
		if (old + strlen(old) >= (const char *)journal.log + size)
			abort();
	}
	nvc_journal_close(&journal);
	(void)close(fd);
	return 0;
}
