/* SPDX-License-Identifier: Apache-2.0 */
/* The Test Anything Protocol, in a page. A program calls CHECK() any number of times and returns
 * tap_done() from main. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tap {
	int count, failed;
};

static inline bool tap_check(struct tap *tap, bool passed, const char *file, int line,
                             const char *what)
{
	tap->count++;
	tap->failed += !passed;
	printf("%s %d - %s:%d: %s\n", passed ? "ok" : "not ok", tap->count, file, line, what);
	return passed;
}

#define CHECK(tap, condition) tap_check((tap), (condition), __FILE__, __LINE__, #condition)
#define CHECK_STR(tap, got, want)                                                                  \
	do {                                                                                       \
		const char *got_ = (got), *want_ = (want);                                         \
		if (!tap_check((tap), strcmp(got_, want_) == 0, __FILE__, __LINE__,                \
		               #got " is " #want))                                                 \
			printf("# got: %s\n# want: %s\n", got_, want_);                            \
	} while (0)

static inline int tap_done(const struct tap *tap)
{
	printf("1..%d\n", tap->count);
	return tap->failed == 0 && tap->count > 0 ? 0 : 1;
}

/* A copy whose end is the end of its allocation, so that a sanitizer sees every byte too far. */
static inline void *tap_copy(const void *data, size_t len)
{
	void *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, len);
	return copy;
}
