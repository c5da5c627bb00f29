/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as text without stdio. Fork class: any. */
#pragma once

/* Write digits, ended by NUL, in front of `end` (16 bytes do); returns where they begin. */
static inline char *nvc_digits(char *end, unsigned value, unsigned base)
{
	*--end = '\0';
	do {
		*--end = (char)('0' + value % base);
		value /= base;
	} while (value != 0);
	return end;
}
