/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#define MAX_DEPTH 64

struct scan {
	const uint8_t *at, *end;
};

/* The next byte; -1 at the end. */
static int peek(const struct scan *scan)
{
	return scan->at < scan->end ? *scan->at : -1;
}

static bool take(struct scan *scan, int byte)
{
	if (peek(scan) != byte)
		return false;
	scan->at++;
	return true;
}

static void skip_space(struct scan *scan)
{
	for (int c = peek(scan); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(scan))
		scan->at++;
}

/* Bytes of the UTF-8 sequence that begins here; 0 if none does. */
static size_t sequence(const struct scan *scan)
{
	const uint8_t *at = scan->at;
	size_t left = (size_t)(scan->end - at);
	size_t len = at[0] < 0x80 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

	if (len == 1)
		return 1;
	/* No second byte alone, nothing longer than need be, above U+10FFFF or a surrogate. */
	if (at[0] < 0xc2 || at[0] > 0xf4 || left < len || (at[0] == 0xe0 && at[1] < 0xa0) ||
	    (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
	    (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

static int take_hex(struct scan *scan)
{
	static const char digits[] = "0123456789abcdef";
	int c = peek(scan);
	const char *found;

	if (c >= 'A' && c <= 'F')
		c += 'a' - 'A';
	found = c > 0 ? strchr(digits, c) : NULL;
	if (found == NULL)
		return -1;
	scan->at++;
	return (int)(found - digits);
}

/* Behind a backslash. Returns the code unit, -1 for no escape. */
static int take_escape(struct scan *scan)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	int c = peek(scan), unit = 0;
	const char *found = c > 0 ? strchr(letters, c) : NULL;

	if (found != NULL) {
		scan->at++;
		return meant[found - letters];
	}
	if (!take(scan, 'u'))
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = take_hex(scan);
		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

/* A string; `*is_word` tells whether it is the ASCII text `word`, however it is written. */
static bool take_string(struct scan *scan, const char *word, bool *is_word)
{
	const char *rest = word;

	if (!take(scan, '"'))
		return false;
	while (!take(scan, '"')) {
		int unit = peek(scan);
		if (unit < ' ')
			return false; /* also the end */
		if (take(scan, '\\')) {
			unit = take_escape(scan);
			if (unit < 0)
				return false;
		} else {
			size_t len = sequence(scan);
			if (len == 0)
				return false;
			scan->at += len;
		}
		rest = rest != NULL && *rest != '\0' && unit == *rest ? rest + 1 : NULL;
	}
	*is_word = rest != NULL && *rest == '\0';
	return true;
}

static bool take_digits(struct scan *scan)
{
	const uint8_t *start = scan->at;

	while (peek(scan) >= '0' && peek(scan) <= '9')
		scan->at++;
	return scan->at > start;
}

static bool take_number(struct scan *scan)
{
	(void)take(scan, '-');
	if (!take(scan, '0') && !take_digits(scan))
		return false;
	if (take(scan, '.') && !take_digits(scan))
		return false;
	if (!take(scan, 'e') && !take(scan, 'E'))
		return true;
	if (!take(scan, '+'))
		(void)take(scan, '-');
	return take_digits(scan);
}

static bool take_literal(struct scan *scan, const char *word)
{
	for (; *word != '\0'; word++) {
		if (!take(scan, *word))
			return false;
	}
	return true;
}

static bool take_value(struct scan *scan, int depth);

static bool take_key(struct scan *scan, const char *word, bool *is_word)
{
	skip_space(scan);
	if (!take_string(scan, word, is_word))
		return false;
	skip_space(scan);
	return take(scan, ':');
}

/* Members or elements up to `close`; behind the opening bracket. */
static bool take_items(struct scan *scan, int close, int depth)
{
	bool unused;

	skip_space(scan);
	if (take(scan, close))
		return true;
	do {
		if ((close == '}' && !take_key(scan, "", &unused)) || !take_value(scan, depth))
			return false;
	} while (take(scan, ','));
	return take(scan, close);
}

/* A value and the space around it. */
static bool take_value(struct scan *scan, int depth)
{
	bool unused, good;

	if (depth == MAX_DEPTH)
		return false;
	skip_space(scan);
	if (take(scan, '{'))
		good = take_items(scan, '}', depth + 1);
	else if (take(scan, '['))
		good = take_items(scan, ']', depth + 1);
	else if (peek(scan) == '"')
		good = take_string(scan, "", &unused);
	else if (peek(scan) == 't')
		good = take_literal(scan, "true");
	else if (peek(scan) == 'f')
		good = take_literal(scan, "false");
	else if (peek(scan) == 'n')
		good = take_literal(scan, "null");
	else
		good = take_number(scan);
	skip_space(scan);
	return good;
}

/* A value from its first byte; -1 if it is not a positive integer of 31 bits. */
static int to_pid(const uint8_t *at, const uint8_t *end)
{
	int pid = 0;

	for (; at < end && *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(pid, 10, &pid) ||
		    __builtin_add_overflow(pid, *at - '0', &pid))
			return -1;
	}
	/* What follows a number is the end of it, or what makes it no integer. */
	if (at < end && (*at == '.' || *at == 'e' || *at == 'E'))
		return -1;
	return pid > 0 ? pid : -1;
}

int state_pid(const uint8_t *json, size_t len, const char **why)
{
	struct scan scan = {.at = json, .end = json + len};
	int pid = 0, found = 0;

	*why = "not a JSON object in UTF-8";
	skip_space(&scan);
	if (!take(&scan, '{'))
		return -1;
	skip_space(&scan);
	if (!take(&scan, '}')) {
		do {
			bool is_pid;
			if (!take_key(&scan, "pid", &is_pid))
				return -1;
			skip_space(&scan);
			if (is_pid) {
				found++;
				pid = to_pid(scan.at, scan.end);
			}
			if (!take_value(&scan, 1))
				return -1;
		} while (take(&scan, ','));
		if (!take(&scan, '}'))
			return -1;
	}
	skip_space(&scan);
	if (scan.at != scan.end)
		return -1;
	if (found == 1 && pid > 0)
		return pid;
	*why = found == 0  ? "it has no pid"
	       : found > 1 ? "it has more than one pid"
	                   : "its pid is not the number of a process";
	return -1;
}
