/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error arena dir path ldconf */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "nvc_ldconf.h"

#define LENGTH_MAX 255u

/* What is not compared: classes of characters ("[:alpha:]"), and sets that have no end, which the
 * C library's glob takes literally, and its fnmatch if they do not end like a range. */
static bool is_special(const char *pattern)
{
	return strstr(pattern, "[:") != NULL || strstr(pattern, "[.") != NULL ||
	       strstr(pattern, "[=") != NULL || pattern[strlen(pattern) - 1] == '-';
}

/* A pattern and, behind the first line break, a name: they match as the C library has it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char pattern[LENGTH_MAX + 1], name[LENGTH_MAX + 1];
	const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
	size_t len = end == NULL ? 0 : (size_t)(end - data);
	size_t name_len = end == NULL ? 0 : size - len - 1;

	if (len == 0 || name_len == 0 || len > LENGTH_MAX || name_len > LENGTH_MAX ||
	    memchr(data, '\0', size) != NULL || memchr(data, '/', size) != NULL)
		return 0;
	memcpy(pattern, data, len);
	pattern[len] = '\0';
	memcpy(name, end + 1, name_len);
	name[name_len] = '\0';
	if (!is_special(pattern) &&
	    nvc_ldconf_matches(pattern, name) != (fnmatch(pattern, name, FNM_PERIOD) == 0))
		abort();
	return 0;
}
