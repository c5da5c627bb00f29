/* SPDX-License-Identifier: Apache-2.0 */
#include "say.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nvc_io.h"

static char *put(char *to, const char *text)
{
	size_t len = strlen(text);

	memcpy(to, text, len);
	return to + len;
}

static char *put_printable(char *to, const char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '\n') {
			to = put(to, "\\n");
		} else if (c < ' ' || c > '~') {
			to = put(to, "\\x");
			*to++ = digits[c / 16];
			*to++ = digits[c % 16];
		} else {
			*to++ = (char)c;
		}
	}
	return to;
}

void say(const char *who, const char *format, ...)
{
	char text[SAY_MAX], name[64], line[4 * (SAY_MAX + sizeof name) + 4], *end;
	va_list values;

	va_start(values, format);
	(void)vsnprintf(text, sizeof text, format, values);
	va_end(values);
	nvc_copy(name, sizeof name, who);
	end = put(put_printable(line, name), ": ");
	end = put(put_printable(end, text), "\n");
	(void)nvc_write_all(STDERR_FILENO, line, (size_t)(end - line));
}

void say_describe(const struct nvc_error *err, char out[SAY_MAX])
{
	char why[128] = "";

	if (err->sys_errno != 0)
		nvc_copy(why, sizeof why, strerror(err->sys_errno)); /* there is one thread */
	for (char *c = why; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	if (err->code == NVC_EPATH) {
		(void)snprintf(out, SAY_MAX, "path error: %s%s%s", err->path,
		               err->msg[0] != '\0' ? " " : ": ",
		               err->msg[0] != '\0' ? err->msg : why);
		return;
	}
	(void)snprintf(out, SAY_MAX, "%s%s%s%s%s%s", err->msg[0] != '\0' ? err->msg : err->step,
	               err->msg[0] != '\0' ? "" : " failed", err->path[0] != '\0' ? ": " : "",
	               err->path, why[0] != '\0' ? ": " : "", why);
}
