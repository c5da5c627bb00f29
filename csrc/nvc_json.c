/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_json.h"

#include <string.h>

#define MAX_DEPTH 64

/* The next byte; -1 at the end. */
static int peek(const struct nvc_json *scan)
{
	return scan->at < scan->end ? (unsigned char)*scan->at : -1;
}

static bool take(struct nvc_json *scan, int byte)
{
	if (peek(scan) != byte)
		return false;
	scan->at++;
	return true;
}

static void skip_space(struct nvc_json *scan)
{
	for (int c = peek(scan); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(scan))
		scan->at++;
}

/* Bytes of the UTF-8 sequence that begins here; 0 if none does. */
static size_t sequence(const struct nvc_json *scan)
{
	const unsigned char *at = (const unsigned char *)scan->at;
	size_t left = (size_t)(scan->end - scan->at);
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

static int take_hex(struct nvc_json *scan)
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
static int take_escape(struct nvc_json *scan)
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

/* One character inside a string: its code unit if it is written as an escape or is ASCII, else
 * the first byte; -1 if it is none. */
static int take_character(struct nvc_json *scan)
{
	int unit = peek(scan);
	size_t len;

	if (unit < ' ')
		return -1; /* also the end */
	if (take(scan, '\\'))
		return take_escape(scan);
	len = sequence(scan);
	scan->at += len;
	return len == 0 ? -1 : unit;
}

static bool take_string(struct nvc_json *scan, struct nvc_json *out)
{
	if (!take(scan, '"'))
		return false;
	out->at = scan->at;
	while (peek(scan) != '"') {
		if (take_character(scan) < 0)
			return false;
	}
	out->end = scan->at++;
	return true;
}

static bool take_digits(struct nvc_json *scan)
{
	const char *start = scan->at;

	while (peek(scan) >= '0' && peek(scan) <= '9')
		scan->at++;
	return scan->at > start;
}

static bool take_number(struct nvc_json *scan)
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

static bool take_literal(struct nvc_json *scan, const char *word)
{
	for (; *word != '\0'; word++) {
		if (!take(scan, *word))
			return false;
	}
	return true;
}

static bool take_value(struct nvc_json *scan, struct nvc_json *out, int depth);

static bool take_key(struct nvc_json *scan, struct nvc_json *out)
{
	skip_space(scan);
	if (!take_string(scan, out))
		return false;
	skip_space(scan);
	return take(scan, ':');
}

/* Members or elements up to `close`; behind the opening bracket. */
static bool take_items(struct nvc_json *scan, int close, int depth)
{
	struct nvc_json unused;

	skip_space(scan);
	if (take(scan, close))
		return true;
	do {
		if ((close == '}' && !take_key(scan, &unused)) || !take_value(scan, &unused, depth))
			return false;
	} while (take(scan, ','));
	return take(scan, close);
}

/* A value and the space around it. */
static bool take_value(struct nvc_json *scan, struct nvc_json *out, int depth)
{
	struct nvc_json unused;
	bool good;

	if (depth == MAX_DEPTH)
		return false;
	skip_space(scan);
	out->at = scan->at;
	if (take(scan, '{'))
		good = take_items(scan, '}', depth + 1);
	else if (take(scan, '['))
		good = take_items(scan, ']', depth + 1);
	else if (peek(scan) == '"')
		good = take_string(scan, &unused);
	else if (peek(scan) == 't')
		good = take_literal(scan, "true");
	else if (peek(scan) == 'f')
		good = take_literal(scan, "false");
	else if (peek(scan) == 'n')
		good = take_literal(scan, "null");
	else
		good = take_number(scan);
	out->end = scan->at;
	skip_space(scan);
	return good;
}

bool nvc_json_read(const char *text, size_t len, struct nvc_json *value)
{
	struct nvc_json scan = {.at = text, .end = text + len};

	return take_value(&scan, value, 0) && scan.at == scan.end;
}

bool nvc_json_enter(struct nvc_json value, char bracket, struct nvc_json_items *out)
{
	*out =
	    (struct nvc_json_items){.left = value, .is_object = bracket == '{', .is_first = true};
	return take(&out->left, bracket);
}

int nvc_json_next(struct nvc_json_items *items, struct nvc_json *key, struct nvc_json *value)
{
	struct nvc_json *left = &items->left;
	int close = items->is_object ? '}' : ']';

	if (items->is_first)
		skip_space(left);
	if (peek(left) == close) {
		/* A comma has nothing behind it if this is not the first. */
		left->at++;
		return left->at == left->end ? 0 : -1;
	}
	if (!items->is_first && !take(left, ','))
		return -1;
	items->is_first = false;
	*key = (struct nvc_json){.at = left->at, .end = left->at};
	if ((items->is_object && !take_key(left, key)) || !take_value(left, value, 1))
		return -1;
	return 1;
}

bool nvc_json_is(struct nvc_json string, const char *text)
{
	while (string.at < string.end) {
		if (*text == '\0' || take_character(&string) != *text)
			return false;
		text++;
	}
	return *text == '\0';
}

bool nvc_json_string(struct nvc_json value, struct nvc_json *out)
{
	return take_string(&value, out) && value.at == value.end;
}

bool nvc_json_has(struct nvc_json text, const char *part)
{
	return memmem(text.at, (size_t)(text.end - text.at), part, strlen(part)) != NULL;
}

bool nvc_json_is_empty(struct nvc_json value)
{
	struct nvc_json_items items;
	struct nvc_json unused;

	return nvc_json_enter(value, *value.at, &items) &&
	       nvc_json_next(&items, &unused, &unused) == 0;
}
