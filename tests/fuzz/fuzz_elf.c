/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error elf */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "nvc_elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvc_elf_facts facts;
	struct nvc_error err;
	uint32_t names = 0;

	if (nvc_elf_parse(data, size, &facts, &err) < 0)
		return 0;
	/* Promised: names end in NUL, and there are as many as counted. */
	if (memchr(facts.soname, '\0', sizeof facts.soname) == NULL ||
	    facts.needed_len > sizeof facts.needed)
		abort();
	for (uint32_t i = 0; i < facts.needed_len; i++)
		names += facts.needed[i] == '\0';
	if (names != facts.needed_count ||
	    (facts.needed_len > 0 && facts.needed[facts.needed_len - 1] != '\0'))
		abort();
	return 0;
}
